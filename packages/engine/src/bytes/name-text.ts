/** Names as images hold them: bytes that are mostly UTF-8, and that nobody promised to be. Source of the notation: Python's PEP 383 ("surrogateescape"). */

/** Where the bytes 0x80 to 0xff stand that are not part of UTF-8. */
const escapes = 0xdc00

/** The text of a name. A byte that is no part of UTF-8 becomes half of a surrogate pair (U+DC80 to U+DCFF), so that `encodeName` gives the same bytes again; a byte
 *  order mark is a letter like others. */
export function decodeName(bytes: Uint8Array): string {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  try {
    return decoder.decode(bytes)
  } catch {
    return decodeBytewise(bytes, decoder)
  }
}

function decodeBytewise(bytes: Uint8Array, decoder: InstanceType<typeof TextDecoder>): string {
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at] ?? 0
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
    try {
      text += decoder.decode(bytes.subarray(at, at + length))
      at += length
    } catch {
      text += String.fromCharCode(escapes + first)
      at++
    }
  }
  return text
}

/** The bytes of a name that `decodeName` gave, or of any other text. */
export function encodeName(name: string): Uint8Array {
  const encoder = new TextEncoder()
  if (name.isWellFormed()) return encoder.encode(name)
  const bytes: number[] = []
  for (const letter of name) {
    const code = letter.codePointAt(0) ?? 0
    if (isEscape(code)) bytes.push(code - escapes)
    else bytes.push(...encoder.encode(letter))
  }
  return Uint8Array.from(bytes)
}

/** Whether a name has bytes that are not UTF-8. */
export function isUndecoded(name: string): boolean {
  return !name.isWellFormed()
}

function isEscape(code: number): boolean {
  return code >= escapes + 0x80 && code <= escapes + 0xff
}
