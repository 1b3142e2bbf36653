/** Error numbers on the wire (those of Linux, whatever the system) and the codes they stand for. */

const codes: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
}

const numbers: Readonly<Record<string, number>> = {
  ...Object.fromEntries(Object.entries(codes).map(([number, code]) => [code, Number(number)])),
  EROFS: 1,
  EACCES: 1,
  EFBIG: 28,
  EDQUOT: 28,
  EOPNOTSUPP: 95,
}

/** Words of the codes that the engine's own table does not have. */
const words: Readonly<Record<string, string>> = {
  EOVERFLOW: 'Value too large for defined data type',
  ESHUTDOWN: 'Cannot send after transport endpoint shutdown',
}

/** The code of a number; unknown ones count as `EINVAL`, as the protocol says. */
export function codeOfNumber(number: number): string {
  return codes[number] ?? 'EINVAL'
}

/** The number that is sent for a code; `EIO` for those that have none. */
export function numberOfCode(code: string | undefined): number {
  return (code === undefined ? undefined : numbers[code]) ?? 5
}

/** What strerror(3) says, for codes that only this protocol knows. */
export function wordsOf(code: string): string | undefined {
  return words[code]
}
