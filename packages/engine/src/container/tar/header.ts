/** Headers of tar archives. Facts: POSIX.1-2001 (ustar, pax), the GNU tar manual, "Basic Tar Format" and "Old GNU Format"; FreeBSD's tar(5). */
import { MoraineError } from '../../core/index.ts'

/** Bytes that everything in a tar is a multiple of. */
export const tarBlock = 512

/** The header of one member as it stands in its block. */
export interface TarHeader {
  name: string
  /** Bytes that follow. */
  size: number
  /** The letter of its kind; a NUL of old archives is '0'. */
  type: string
  link: string
  mode: number
  /** Seconds since 1970. */
  modified: number
  /** Pieces of a sparse file (old GNU kind), its whole size, and whether more pieces follow in further blocks. */
  sparse?: { runs: TarRun[]; size: number; more: boolean } | undefined
}

/** Bytes of a sparse file that are stored; `offset` counts in the file. */
export interface TarRun {
  offset: number
  length: number
}

const latin1 = new TextDecoder('latin1')
const utf8 = new TextDecoder()

/** A text field: up to its first NUL. */
function field(bytes: Uint8Array, at: number, length: number): string {
  const part = bytes.subarray(at, at + length)
  const end = part.indexOf(0)
  return utf8.decode(end < 0 ? part : part.subarray(0, end))
}

/** A number: octal digits, or binary with the first bit set (GNU, for what does not fit).
 *  @throws MoraineError `corrupt` for anything else, negative numbers and what passes 2^53 − 1. */
export function tarNumber(bytes: Uint8Array, at: number, length: number, name: string): number {
  const first = bytes[at] ?? 0
  const refuse = (value: string) =>
    new MoraineError('corrupt', `a header of the tar has a wrong ${name}`, {
      field: name,
      value,
      rule: 'octal digits, or a positive number in binary',
    })
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x7f)
    for (let index = 1; index < length; index++) value = (value << 8n) | BigInt(bytes[at + index] ?? 0)
    if (first === 0xff || value > BigInt(Number.MAX_SAFE_INTEGER))
      throw refuse(first === 0xff ? 'negative' : String(value))
    return Number(value)
  }
  const text = latin1
    .decode(bytes.subarray(at, at + length))
    .replaceAll('\0', ' ')
    .trim()
  if (text === '') return 0
  if (!/^[0-7]+$/.test(text)) throw refuse(JSON.stringify(text))
  return Number.parseInt(text, 8)
}

/** Whether the checksum of a block is that of a header. Old programs added signed bytes. */
export function isTarHeader(bytes: Uint8Array): boolean {
  if (bytes.length < tarBlock) return false
  const text = latin1.decode(bytes.subarray(148, 156)).replaceAll('\0', ' ').trim()
  if (!/^[0-7]+$/.test(text)) return false
  const stated = Number.parseInt(text, 8)
  let unsigned = 0
  let signed = 0
  for (let index = 0; index < tarBlock; index++) {
    const byte = index >= 148 && index < 156 ? 0x20 : (bytes[index] ?? 0)
    unsigned += byte
    signed += byte > 127 ? byte - 256 : byte
  }
  return stated === unsigned || stated === signed
}

/** Reads a header whose checksum is right.
 *  @throws MoraineError `corrupt` for a number that is none. */
export function readTarHeader(bytes: Uint8Array): TarHeader {
  const magic = latin1.decode(bytes.subarray(257, 265))
  const type = String.fromCharCode(bytes[156] || 0x30)
  const own = field(bytes, 0, 100)
  const prefix = magic.startsWith('ustar\0') ? field(bytes, 345, 155) : ''
  const header: TarHeader = {
    name: prefix === '' ? own : `${prefix}/${own}`,
    size: tarNumber(bytes, 124, 12, 'size'),
    // Old archives mark folders by their name alone.
    type: type === '0' && own.endsWith('/') ? '5' : type,
    link: field(bytes, 157, 100),
    mode: tarNumber(bytes, 100, 8, 'mode'),
    modified: tarNumber(bytes, 136, 12, 'time'),
  }
  if (type === 'S') {
    header.sparse = {
      runs: readRuns(bytes, 386, 4),
      size: tarNumber(bytes, 483, 12, 'real size'),
      more: bytes[482] === 1,
    }
  }
  return header
}

/** The pieces of a sparse file in a further block, and whether another one follows.
 *  @throws MoraineError `corrupt`. */
export function readSparseBlock(bytes: Uint8Array): { runs: TarRun[]; more: boolean } {
  return { runs: readRuns(bytes, 0, 21), more: bytes[504] === 1 }
}

function readRuns(bytes: Uint8Array, at: number, count: number): TarRun[] {
  const runs: TarRun[] = []
  for (let index = 0; index < count; index++) {
    const from = at + index * 24
    if (bytes[from] === 0) break
    runs.push({
      offset: tarNumber(bytes, from, 12, 'offset of a piece'),
      length: tarNumber(bytes, from + 12, 12, 'length of a piece'),
    })
  }
  return runs
}

/** The records of a pax header: `LENGTH KEY=VALUE\n`.
 *  @throws MoraineError `corrupt`. */
export function readPaxRecords(bytes: Uint8Array): [key: string, value: string][] {
  const records: [string, string][] = []
  for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
    const blank = bytes.indexOf(0x20, at)
    const digits = blank < 0 ? '' : latin1.decode(bytes.subarray(at, blank))
    const length = /^[0-9]{1,9}$/.test(digits) ? Number(digits) : 0
    const end = at + length
    const equals = bytes.indexOf(0x3d, blank)
    if (length === 0 || end > bytes.length || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw new MoraineError('corrupt', 'a pax header of the tar is damaged', {
        field: 'record',
        value: records.length,
        rule: 'LENGTH KEY=VALUE',
      })
    }
    records.push([utf8.decode(bytes.subarray(blank + 1, equals)), utf8.decode(bytes.subarray(equals + 1, end - 1))])
    at = end
  }
  return records
}
