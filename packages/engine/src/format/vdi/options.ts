/** Creation options of VDI. Names, order and wording: `qemu-img create -f vdi -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValues } from '../options.ts'
import { defaultBlockSize, mostBlocks } from './layout.ts'

/** The table of options. */
export const vdiOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'static', type: 'boolean', help: 'VDI static (pre-allocated) image', default: false },
]

/** The options of a creation with defaults filled in. `preallocation` of the file has no effect: a new file is empty.
 *  @throws MoraineError `invalid` for a size that no VDI has. */
export function resolveVdiOptions(size: bigint, options: OptionValues): OptionValues {
  const most = BigInt(mostBlocks) * BigInt(defaultBlockSize)
  if (size > most) {
    throw new MoraineError(
      'invalid',
      `Unsupported VDI image size (size is 0x${size.toString(16)}, max supported is 0x${most.toString(16)})`,
      { format: 'vdi', field: 'size', value: size, rule: `at most ${most}` },
    )
  }
  const { size: _again, ...rest } = options
  return { size, static: false, ...rest }
}
