/** Structures of ISO 9660 as they stand on the disc: numbers written twice, dates, text, directory records. Facts: ECMA-119 4th edition, sections 7.3 (numbers), 8.4.26 (long dates),
 *  9.1 (directory records). */
import { viewOf } from '../../bytes/integers.ts'

/** Bytes of a logical sector: what directory records and continuation areas do not cross. */
export const sectorBytes = 2048
/** Bytes of a directory record before its identifier. */
export const recordHead = 33

/** Flags of a directory record. */
export const recordFlags = { hidden: 1, directory: 2, associated: 4, more: 0x80 } as const

/** Told that a number is written twice, and differently. */
export type DoubtAbout = (field: string, value: number, other: number) => void

/** A number of 32 bits, little-endian and then big-endian; the first one counts. */
export function both32(view: DataView, at: number, field: string, doubt: DoubtAbout): number {
  const value = view.getUint32(at, true)
  const other = view.getUint32(at + 4)
  if (value !== other) doubt(field, value, other)
  return value
}

/** A number of 16 bits, little-endian and then big-endian; the first one counts. */
export function both16(view: DataView, at: number, field: string, doubt: DoubtAbout): number {
  const value = view.getUint16(at, true)
  const other = view.getUint16(at + 2)
  if (value !== other) doubt(field, value, other)
  return value
}

/** One record of a directory. */
export interface DirectoryRecord {
  /** Byte offset in the image, for messages. */
  at: number
  /** Logical block of its data; those of its extended attribute record stand before. */
  block: number
  extendedBlocks: number
  /** Bytes of its data. */
  size: number
  /** Seconds since 1970. */
  date: number | undefined
  flags: number
  interleaved: boolean
  identifier: Uint8Array
  systemUse: Uint8Array
}

/** Reads the record at the beginning of `bytes`; undefined where its lengths contradict each other. */
export function readRecord(bytes: Uint8Array, at: number, doubt: DoubtAbout): DirectoryRecord | undefined {
  const length = bytes[0] ?? 0
  if (length < recordHead + 1 || length > bytes.length) return undefined
  const view = viewOf(bytes)
  const nameLength = view.getUint8(32)
  // A byte of padding follows an identifier of even length.
  const systemUse = recordHead + nameLength + ((nameLength + 1) % 2)
  if (nameLength === 0 || recordHead + nameLength > length) return undefined
  return {
    at,
    extendedBlocks: view.getUint8(1),
    block: both32(view, 2, 'location of extent', doubt),
    size: both32(view, 10, 'data length', doubt),
    date: readShortDate(bytes.subarray(18, 25)),
    flags: view.getUint8(25),
    interleaved: view.getUint8(26) !== 0 || view.getUint8(27) !== 0,
    identifier: bytes.slice(recordHead, recordHead + nameLength),
    systemUse: bytes.slice(Math.min(systemUse, length), length),
  }
}

/** Seconds since 1970 of a date in 7 bytes; undefined where it is none. */
export function readShortDate(bytes: Uint8Array): number | undefined {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, zone = 0] = bytes
  return secondsOf(1900 + year, month, day, hour, minute, second, zone)
}

/** Seconds since 1970 of a date in 17 bytes; undefined where it is unset or none. */
export function readLongDate(bytes: Uint8Array): number | undefined {
  const digits = latin1(bytes.subarray(0, 16))
  if (!/^\d{16}$/.test(digits)) return undefined
  const part = (from: number, to: number): number => Number(digits.slice(from, to))
  return secondsOf(part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), bytes[16] ?? 0)
}

function secondsOf(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
  zone: number,
): number | undefined {
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59) return undefined
  // Quarters of an hour, signed.
  const quarters = zone > 127 ? zone - 256 : zone
  const date = new Date(0)
  // Date.UTC takes years below 100 for those of the 20th century.
  date.setUTCFullYear(year, month - 1, day)
  date.setUTCHours(hour, minute, second)
  return date.getTime() / 1000 - (Math.abs(quarters) <= 52 ? quarters * 900 : 0)
}

/** Each byte as the character of that number. */
export function latin1(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  return text
}

/** Text as UTF-8; where it is none, each byte as the character of that number. */
export function readText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return latin1(bytes)
  }
}

/** Text of a field that is padded with blanks or zeros. */
export function readPaddedText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return readText(end < 0 ? bytes : bytes.subarray(0, end)).trimEnd()
}

/** Text in UTF-16 with the high byte first, as Joliet has it. An odd last byte is left out. */
export function readUtf16be(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    text += String.fromCharCode(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0))
  }
  return text.toWellFormed()
}
