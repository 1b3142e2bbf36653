/** Numbers and sizes on the command line, with QEMU's messages. */
import { parseSize } from '@moraine/engine'
import { Failure } from './failure.ts'

const largest = 0x7fff_ffff_ffff_ffffn

/** A size that must fit 63 bits. `what` names it in messages, as in `image size`.
 *  @throws Failure */
export function readSize(what: string, text: string): bigint {
  const size = parseSize(text)
  if (size !== undefined && size <= largest) return size
  if (size !== undefined || /^\s*(\d+[bkmgtpe]?|\d+\.\d*[kmgtpe])$/i.test(text)) {
    throw new Failure(`Invalid ${what} specified. Must be between 0 and ${largest}.`)
  }
  throw new Failure([
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
    'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.',
  ])
}

/** A whole number in C's notations (decimal, `0x…`, `0…`); undefined when it is none. */
export function readInteger(text: string): number | undefined {
  const match = /^\s*([+-]?)(0x[0-9a-f]+|\d+)$/i.exec(text)
  if (match === null) return undefined
  const [, sign, digits = ''] = match
  const value = /^0\d+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits)
  return Number.isNaN(value) ? undefined : sign === '-' ? -value : value
}
