/** UTF-16, little-endian: names in VHD and VHDX. */

/** The text of `bytes`; an odd last byte is left out, half of a pair becomes U+FFFD. */
export function readUtf16le(bytes: Uint8Array): string {
  return new TextDecoder('utf-16le', { ignoreBOM: true }).decode(bytes.subarray(0, bytes.length & ~1))
}

/** The bytes of a text, two for each UTF-16 unit, without a terminator. */
export function utf16le(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2)
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    bytes[i * 2] = unit & 255
    bytes[i * 2 + 1] = unit >>> 8
  }
  return bytes
}
