/** GUIDs as Microsoft lays them out: the first three fields little-endian, the rest as bytes. In memory they are lower-case text without braces. */

/** Which byte of the text's order each byte on disk is. */
const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]

/** The GUID of zeros, which stands for "none". */
export const zeroGuid = '00000000-0000-0000-0000-000000000000'

/** The GUID at `at` of `bytes`. */
export function readGuid(bytes: Uint8Array, at: number): string {
  let text = ''
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += '-'
    text += (bytes[at + (order[i] as number)] as number).toString(16).padStart(2, '0')
  }
  return text
}

/** Writes a GUID at `at` of `bytes`; `guid` as `readGuid` gives it, in either case. */
export function writeGuid(bytes: Uint8Array, at: number, guid: string): void {
  const digits = guid.replaceAll('-', '')
  for (let i = 0; i < 16; i++) bytes[at + (order[i] as number)] = Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16)
}

/** The GUID (version 4 of RFC 9562) made of 16 random bytes, which are changed. */
export function randomGuidOf(bytes: Uint8Array): string {
  bytes[7] = ((bytes[7] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  return readGuid(bytes, 0)
}
