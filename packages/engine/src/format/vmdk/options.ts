/** Creation options of VMDK. Names, order and wording: `qemu-img create -f vmdk -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValue, OptionValues } from '../options.ts'

/** The table of options, in the order in which QEMU prints them. */
export const vmdkOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  {
    name: 'adapter_type',
    type: 'string',
    values: ['ide', 'lsilogic', 'buslogic', 'legacyESX'],
    help: 'Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX',
  },
  { name: 'backing_file', type: 'string', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', help: "Must be 'vmdk' if present" },
  { name: 'compat6', type: 'boolean', help: 'VMDK version 6 image', default: false },
  { name: 'hwversion', type: 'string', help: 'VMDK hardware version', default: 'undefined' },
  { name: 'toolsversion', type: 'string', help: 'VMware guest tools version' },
  {
    name: 'subformat',
    type: 'string',
    values: ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'],
    ours: ['vmfs', 'vmfsThin'],
    help: 'VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ',
  },
  {
    name: 'zeroed_grain',
    type: 'boolean',
    help: 'Enable efficient zero writes using the zeroed-grain GTE feature',
  },
]

/** How the extents of a new image are laid out. */
export type Subformat = (typeof subformats)[number]

/** The options of a creation, with defaults filled in and checked against each other. */
export interface VmdkPlan {
  subformat: Subformat
  flat: boolean
  /** A disk on a datastore of ESXi. */
  vmfs: boolean
  split: boolean
  compressed: boolean
  zeroedGrains: boolean
  adapterType: string
  hardwareVersion: string
  toolsVersion: string
}

const subformats = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'streamOptimized',
  'vmfs',
  'vmfsThin',
] as const

const adapterTypes = ['ide', 'buslogic', 'lsilogic', 'legacyESX'] as const

/** Checks the options of a creation; the rules and their words are QEMU's.
 *  @throws MoraineError `invalid`, naming the option; `unsupported` for what flat images cannot have. */
export function planOptions(options: OptionValues, backing?: { format?: string | undefined }): VmdkPlan {
  if (backing?.format !== undefined && backing.format !== 'vmdk') {
    refuse('backing_fmt', backing.format, 'backing_file must be a vmdk image')
  }
  const adapterType = oneOf('adapter_type', options.adapter_type ?? 'ide', adapterTypes)
  const subformat = oneOf('subformat', options.subformat ?? 'monolithicSparse', subformats)
  const given = options.hwversion === 'undefined' ? undefined : options.hwversion
  if (options.compat6 === true && given !== undefined) {
    refuse('compat6', 'on', 'compat6 cannot be enabled with hwversion set')
  }
  const vmfs = subformat === 'vmfs' || subformat === 'vmfsThin'
  const flat = vmfs || subformat === 'monolithicFlat' || subformat === 'twoGbMaxExtentFlat'
  const zeroedGrains = options.zeroed_grain === true
  if (flat && backing !== undefined) {
    throw new MoraineError('unsupported', "Flat image can't have backing file", { format: 'vmdk', field: 'subformat' })
  }
  if (flat && zeroedGrains) {
    throw new MoraineError('unsupported', "Flat image can't enable zeroed grain", {
      format: 'vmdk',
      field: 'zeroed_grain',
    })
  }
  return {
    subformat,
    flat,
    vmfs,
    split: subformat === 'twoGbMaxExtentFlat' || subformat === 'twoGbMaxExtentSparse',
    compressed: subformat === 'streamOptimized',
    zeroedGrains,
    adapterType,
    hardwareVersion: options.compat6 === true ? '6' : String(given ?? '4'),
    toolsVersion: String(options.toolsversion ?? '2147483647'),
  }
}

/** The options as QEMU prints them on the "Formatting" line: defaults filled in, in its order, not yet checked. */
export function resolveVmdkOptions(
  size: bigint,
  options: OptionValues,
  backing?: { name: string; format?: string | undefined },
): OptionValues {
  planOptions(options, backing)
  const resolved: Record<string, OptionValue> = { size }
  for (const { name, default: usual } of vmdkOptions) {
    if (name === 'backing_file' && backing !== undefined) resolved.backing_file = backing.name
    else if (name === 'backing_fmt' && backing?.format !== undefined) resolved.backing_fmt = backing.format
    else {
      const value = options[name] ?? usual
      if (name !== 'size' && value !== undefined) resolved[name] = value
    }
  }
  return resolved
}

function oneOf<Value extends string>(name: string, value: OptionValue, values: readonly Value[]): Value {
  const found = values.find((entry) => entry === value)
  if (found !== undefined) return found
  return refuse(name, String(value), `invalid parameter value: ${value}`)
}

function refuse(name: string, value: string, reason: string): never {
  throw new MoraineError('invalid', reason, { format: 'vmdk', field: name, value })
}
