/** Creation options of VHDX. Names, order, defaults and wording: `qemu-img create -f vhdx -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValues } from '../options.ts'
import { bounds, mib } from './layout.ts'

/** The table of options. */
export const vhdxOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size; max of 64TB.' },
  { name: 'log_size', type: 'size', help: 'Log size; min 1MB.', default: BigInt(mib) },
  {
    name: 'block_size',
    type: 'size',
    help: 'Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.',
    default: 0n,
  },
  {
    name: 'subformat',
    type: 'string',
    values: ['dynamic', 'fixed'],
    help: "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'.",
  },
  {
    name: 'block_state_zero',
    type: 'boolean',
    help: "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when using 'qemu-img convert' with subformat=dynamic.",
  },
]

/** What a new image shall be. Bytes. */
export interface VhdxPlan {
  logSize: number
  blockSize: number
  /** All blocks are there from the start. */
  fixed: boolean
  /** Blocks without a place are said to be zeros. */
  zeroState: boolean
}

const gib = 1024 * mib

/** QEMU's choice: it keeps the table small. */
function defaultBlockSize(size: bigint): number {
  if (size > BigInt(32 * 1024 * gib)) return 64 * mib
  if (size > BigInt(100 * gib)) return 32 * mib
  return size > BigInt(gib) ? 16 * mib : 8 * mib
}

/** Checks options against each other. `size` in bytes. Log and blocks are rounded up to whole MiB, blocks down to 256 MiB.
 *  A fixed image has its blocks in place, unless `block_state_zero=on` asks for what QEMU makes of it: blocks of zeros beside space for all of them.
 *  @throws MoraineError `invalid`, in QEMU's words. */
export function planOptions(size: bigint, options: OptionValues): VhdxPlan {
  const refuse = (field: string, value: bigint | string, reason: string): never => {
    throw new MoraineError('invalid', reason, { format: 'vhdx', field, value })
  }
  const subformat = options.subformat ?? 'dynamic'
  if (subformat !== 'dynamic' && subformat !== 'fixed') {
    refuse('subformat', String(subformat), `Parameter 'subformat' does not accept value '${subformat}'`)
  }
  if (size > BigInt(bounds.virtualSize)) refuse('size', size, 'Image size too large; max of 64TB')
  const logSize = upToMib(options.log_size ?? BigInt(mib))
  if (logSize > 0xffff_ffffn) refuse('log_size', logSize, 'Log size must be smaller than 4 GB')
  if (logSize === 0n) refuse('log_size', logSize, 'Log size must be a multiple of 1 MB')
  const asked = upToMib(options.block_size ?? 0n)
  const largest = BigInt(bounds.largestBlock)
  const blockSize = asked === 0n ? defaultBlockSize(size) : Number(asked > largest ? largest : asked)
  if (!Number.isInteger(Math.log2(blockSize))) {
    refuse('block_size', BigInt(blockSize), 'Block size must be a power of two')
  }
  const fixed = subformat === 'fixed' && options.block_state_zero !== true
  return {
    logSize: Number(logSize),
    blockSize,
    fixed: subformat === 'fixed',
    zeroState: !fixed && options.block_state_zero !== false,
  }
}

function upToMib(value: OptionValues[string]): bigint {
  const bytes = BigInt(value)
  const unit = BigInt(mib)
  return ((bytes + unit - 1n) / unit) * unit
}

/** The options of a creation with defaults filled in.
 *  @throws MoraineError as `planOptions`. */
export function resolveVhdxOptions(size: bigint, options: OptionValues): OptionValues {
  planOptions(size, options)
  const { size: _again, ...rest } = options
  return { size, log_size: BigInt(mib), block_size: 0n, ...rest }
}
