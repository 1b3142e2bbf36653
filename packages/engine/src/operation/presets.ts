/** What hypervisors and clouds want of an image: format, options, whole sizes, packaging. Facts, by name: the makers' import guides (VMware OVF and VMDK 5.0; Azure "Prepare a VHD"; Google Compute
 *  Engine "Import a boot disk manually"; AWS VM Import/Export requirements; OpenStack Image guide; XenServer VHD). */
import { roundUp } from '../bytes/integers.ts'
import { MoraineError } from '../core/index.ts'
import { scanSize } from '../format/options.ts'

/** One choice of a preset, with its reason in a few words. */
export interface PresetOption {
  name: string
  /** As after `-o NAME=`. */
  value: string
  why: string
}

/** What one target wants. */
export interface Preset {
  readonly name: string
  /** For people. */
  readonly title: string
  /** The engine's name of the format. */
  readonly format: string
  readonly why: string
  /** Options that the target needs; none of them can be changed by the user. */
  readonly options: readonly PresetOption[]
  /** Instead of those of the same name, for an image that is created empty. */
  readonly created?: readonly PresetOption[]
  /** The virtual size is rounded up to a whole number of these bytes. */
  readonly sizeUnit: number
  /** A gzipped tar archive (old GNU, sparse) that holds the image under this name. Such an image is only made by converting. */
  readonly archive?: string
}

const MiB = 1024 * 1024
const sector = 512
const lsilogic: PresetOption = { name: 'adapter_type', value: 'lsilogic', why: 'the controller that it imports to' }
const stream: PresetOption = {
  name: 'subformat',
  value: 'streamOptimized',
  why: 'one packed file, as importers take it',
}

/** Every preset. */
export const presets: readonly Preset[] = [
  {
    name: 'esxi',
    title: 'VMware ESXi and vSphere',
    format: 'vmdk',
    why: 'OVF imports (ovftool, the vSphere client, govc) take it and lay it out on the datastore; vmkfstools -i does so from a datastore',
    options: [stream, lsilogic],
    created: [
      {
        name: 'subformat',
        value: 'vmfsThin',
        why: 'a packed image cannot be written by a guest; this one lies on a datastore',
      },
    ],
    sizeUnit: MiB,
  },
  {
    name: 'workstation',
    title: 'VMware Workstation, Fusion and Player',
    format: 'vmdk',
    why: 'its own growing disk in one file',
    options: [{ name: 'subformat', value: 'monolithicSparse', why: 'one growing file' }, lsilogic],
    sizeUnit: sector,
  },
  {
    name: 'virtualbox',
    title: 'Oracle VirtualBox',
    format: 'vdi',
    why: 'its own format: it grows, is snapshotted and compacted',
    options: [],
    sizeUnit: MiB,
  },
  {
    name: 'hyperv',
    title: 'Microsoft Hyper-V (Windows Server 2012 and newer)',
    format: 'vhdx',
    why: 'generation 2 machines and disks past 2 TiB need it',
    options: [{ name: 'subformat', value: 'dynamic', why: 'it grows' }],
    sizeUnit: MiB,
  },
  {
    name: 'azure',
    title: 'Microsoft Azure',
    format: 'vhd',
    why: 'the only format that it takes',
    options: [
      { name: 'subformat', value: 'fixed', why: 'growing images are refused' },
      { name: 'force_size', value: 'on', why: 'the size stays whole MiB, not whole cylinders' },
    ],
    sizeUnit: MiB,
  },
  {
    name: 'gcp',
    title: 'Google Compute Engine',
    format: 'raw',
    why: 'a raw disk.raw in a gzipped tar of the old GNU kind',
    options: [],
    sizeUnit: 1024 * MiB,
    archive: 'disk.raw',
  },
  {
    name: 'aws',
    title: 'Amazon EC2 (VM Import/Export)',
    format: 'vmdk',
    why: 'of the formats that it imports the one that is smallest to upload',
    options: [stream, lsilogic],
    created: [
      { ...stream, why: 'one packed file, as importers take it; nothing can be written into it, and it stays empty' },
    ],
    sizeUnit: MiB,
  },
  {
    name: 'openstack',
    title: 'OpenStack (Glance, Nova, Cinder)',
    format: 'qcow2',
    why: 'small to upload; Nova boots from it as it is',
    options: [{ name: 'compat', value: '1.1', why: 'zeros take no space' }],
    sizeUnit: sector,
  },
  {
    name: 'proxmox',
    title: 'Proxmox VE',
    format: 'qcow2',
    why: 'it is snapshotted on any file storage; qm importdisk takes it for others',
    options: [{ name: 'compat', value: '1.1', why: 'zeros take no space' }],
    sizeUnit: sector,
  },
  {
    name: 'xen',
    title: 'Xen Project, XenServer and XCP-ng',
    format: 'vhd',
    why: 'what their storage managers keep disks in',
    options: [
      { name: 'subformat', value: 'dynamic', why: 'it grows, in blocks of 2 MiB' },
      { name: 'force_size', value: 'on', why: 'the size is in the footer as it is, not whole cylinders' },
    ],
    sizeUnit: 2 * MiB,
  },
]

/** A preset applied. */
export interface AppliedPreset {
  readonly preset: Preset
  readonly format: string
  /** Options as pairs: the preset's, then the caller's own. */
  readonly options: [name: string, value: string][]
  /** The size of a disk, rounded up as the target wants it. Bytes. */
  sizeFor(size: number): number
  /** What was chosen, one sentence for each choice. */
  readonly says: readonly string[]
}

/** The preset of a name.
 *  @throws MoraineError `invalid`, with the names that there are. */
export function presetNamed(name: string): Preset {
  const found = presets.find((preset) => preset.name === name)
  if (found !== undefined) return found
  throw new MoraineError('invalid', `Unknown preset '${name}'`, {
    field: 'for',
    value: name,
    rule: `one of ${presets.map((preset) => preset.name).join(', ')}`,
  })
}

/** Joins a preset with what the caller asked for besides. Further options of the format may be given; a format or an option that contradicts the preset is refused, by name: an image
 *  that the target does not take would only be found out there.
 *  @throws MoraineError `invalid`. */
export function applyPreset(
  preset: Preset,
  asked: { verb: 'convert' | 'create'; format?: string | undefined; options: readonly (readonly [string, string])[] },
): AppliedPreset {
  const fail = (field: string, value: string, rule: string): never => {
    throw new MoraineError('invalid', `${field} '${value}' contradicts the preset '${preset.name}'`, {
      field,
      value,
      rule,
    })
  }
  if (asked.verb === 'create' && preset.archive !== undefined) {
    throw new MoraineError(
      'invalid',
      `the preset '${preset.name}' makes an archive, which is only made by converting`,
      {
        field: 'for',
        value: preset.name,
      },
    )
  }
  if (asked.format !== undefined && asked.format !== preset.format) fail('format', asked.format, preset.format)
  const created = asked.verb === 'create' ? (preset.created ?? []) : []
  const own = preset.options.map((option) => created.find(({ name }) => name === option.name) ?? option)
  for (const [name, value] of asked.options) {
    const option = own.find((each) => each.name === name)
    if (option !== undefined && !isSame(option.value, value))
      fail('option', `${name}=${value}`, `${name}=${option.value}`)
  }
  const { archive, sizeUnit } = preset
  return {
    preset,
    format: preset.format,
    options: [
      ...own.map(({ name, value }): [string, string] => [name, value]),
      ...asked.options.map(([name, value]): [string, string] => [name, value]),
    ],
    sizeFor: (size) => roundUp(size, sizeUnit),
    says: [
      `format ${preset.format}: ${preset.why}`,
      ...own.map(({ name, value, why }) => `${name}=${value}: ${why}`),
      ...(archive === undefined ? [] : [`packed as ${archive} in a .tar.gz`]),
    ],
  }
}

/** Two spellings of a switch or a size are one. */
function isSame(wanted: string, given: string): boolean {
  if (wanted === given) return true
  if (wanted === 'on') return ['yes', 'true', 'y'].includes(given)
  const [a, b] = [scanSize(wanted), scanSize(given)]
  return typeof a === 'bigint' && a === b
}
