/** Creation options of VHD. Names, order and wording: `qemu-img create -f vpc -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValues } from '../options.ts'
import type { NewVhd } from './layout.ts'
import { newSizeOf } from './size.ts'

/** The table of options. */
export const vhdOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  {
    name: 'subformat',
    type: 'string',
    values: ['dynamic', 'fixed'],
    help: 'Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} ',
  },
  {
    name: 'force_size',
    type: 'boolean',
    help: 'Force disk size calculation to use the actual size specified, rather than using the nearest CHS-based calculation',
  },
]

/** What a creation with these options makes.
 *  @throws MoraineError `invalid` for an unknown subformat, `limit` past 2040 GiB. */
export function planVhd(size: number, options: OptionValues): NewVhd {
  const subformat = options.subformat ?? 'dynamic'
  if (subformat !== 'dynamic' && subformat !== 'fixed') {
    throw new MoraineError('invalid', `Parameter 'subformat' does not accept value '${subformat}'`, {
      format: 'vhd',
      field: 'subformat',
      value: String(subformat),
      rule: 'dynamic or fixed',
    })
  }
  const exact = options.force_size === true
  const rounded = newSizeOf(size, exact)
  if (rounded === undefined) {
    throw new MoraineError('limit', "The image size is too large for file format 'vpc'", {
      format: 'vhd',
      field: 'size',
      value: size,
      rule: 'at most 2040 GiB',
    })
  }
  return { ...rounded, fixed: subformat === 'fixed', creator: exact ? 'qem2' : 'qemu' }
}

/** The options of a creation; those that were not given have no value, as in QEMU.
 *  @throws MoraineError as `planVhd`. */
export function resolveVhdOptions(size: bigint, options: OptionValues): OptionValues {
  planVhd(Number(size), options)
  const { size: _again, ...rest } = options
  return { size, ...rest }
}
