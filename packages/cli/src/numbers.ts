/** Numbers and sizes on the command line, with QEMU's messages. */
import { isHexWithSuffix, scanSize } from '@moraine/engine'
import { Failure } from './failure.ts'

const largest = 0x7fff_ffff_ffff_ffffn

/** A size from `least` to `most`, which is by default what 63 bits hold. `what` names it in messages, as in `image size`.
 *  @throws Failure */
export function readSize(
  what: string,
  text: string,
  warn: Warn,
  { least = 0n, most = largest }: { least?: bigint | undefined; most?: bigint | undefined } = {},
): bigint {
  warnOfHex(text, warn)
  const size = scanSize(text)
  if (typeof size === 'bigint' && size >= least && size <= most) return size
  if (size !== 'invalid') throw new Failure(`Invalid ${what} specified. Must be between ${least} and ${most}.`)
  throw new Failure([
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
    'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.',
  ])
}

/** Says a warning on standard error. */
export type Warn = (message: string) => void

/** Warns of a size such as `0x10k`, in QEMU's words. */
export function warnOfHex(text: string, warn: Warn): void {
  if (isHexWithSuffix(text)) warn(`Using a multiplier suffix on hex numbers is deprecated: ${text}`)
}

/** The most bytes that QEMU takes any image to be: what is aligned to 1 GiB below 2^63. */
export const longestImage = 0x7fff_ffff_c000_0000n

/** QEMU's words for a size above `longestImage`. */
export function beyondLongest(size: bigint): string {
  return `offset(${size}) exceeds maximum(${longestImage})`
}

/** A whole number in C's notations (decimal, `0x…`, `0…`); undefined when it is none. */
export function readInteger(text: string): number | undefined {
  const match = /^\s*([+-]?)(0x[0-9a-f]+|\d+)$/i.exec(text)
  if (match === null) return undefined
  const [, sign, digits = ''] = match
  const value = /^0\d+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits)
  return Number.isNaN(value) ? undefined : sign === '-' ? -value : value
}
