/** Reading headers that may be cut anywhere: what is not there reads as zeros, and the caller looks at lengths. */
import { viewOf } from './integers.ts'

/** `length` bytes from `offset`, zeros for what is not there. */
export function cut(bytes: Uint8Array, offset: number, length: number): Uint8Array {
  const part = bytes.subarray(offset, offset + length)
  if (part.length === length) return part
  const padded = new Uint8Array(length)
  padded.set(part)
  return padded
}

/** A view of `length` bytes from `offset`, zeros for what is not there. */
export function fields(bytes: Uint8Array, offset: number, length: number): DataView {
  return viewOf(cut(bytes, offset, length))
}

/** Whether `text` (its characters as bytes) stands at `at`. */
export function stands(bytes: Uint8Array, text: string, at = 0): boolean {
  if (at < 0 || at + text.length > bytes.length) return false
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false
  return true
}

/** The bytes as text, each byte one character. */
export function latin1(bytes: Uint8Array, start = 0, end: number = bytes.length): string {
  let text = ''
  for (let at = start; at < Math.min(end, bytes.length); at += 4096) {
    // An iteration, as in `...bytes`, costs several times as much.
    text += Reflect.apply(String.fromCharCode, undefined, bytes.subarray(at, Math.min(at + 4096, end)))
  }
  return text
}

/** A name out of an image, safe to print: up to the first NUL, trimmed, without control characters, at most 200 characters. */
export function name(text: string): string {
  const nul = text.indexOf('\0')
  const clean = (nul < 0 ? text : text.slice(0, nul))
    .trim()
    .replace(/[^\x20-\x7e\u00a1-\ud7ff\ue000-\ufffd]/g, '\ufffd')
  return clean.length > 200 ? `${clean.slice(0, 200)}\u2026` : clean
}

/** The name that stands in `length` bytes at `offset`, in UTF-8. */
export function nameAt(bytes: Uint8Array, offset: number, length: number): string {
  return name(new TextDecoder().decode(bytes.subarray(offset, offset + length)))
}

/** Whether `value` is a power of two from `least` to `most`. */
export function isPower(value: number, least: number, most: number): boolean {
  return value >= least && value <= most && 2 ** Math.round(Math.log2(value)) === value
}
