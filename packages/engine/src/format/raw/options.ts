/** Creation options of raw. Wording: `qemu-img create -f raw -o help`. */
import type { OptionSpec } from '../options.ts'

/** The table of options. */
export const rawOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  {
    name: 'preallocation',
    type: 'enum',
    values: ['off', 'falloc', 'full'],
    default: 'off',
    help: 'Preallocation mode (allowed values: off, falloc, full)',
  },
]
