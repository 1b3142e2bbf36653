/** Bytes of new volumes: numbers written twice, dates, directory records, Rock Ridge fields. Facts: ECMA-119 4th edition, sections 7.3, 8.4.26 and 9.1; SUSP 1.12; RRIP 1.09, which
 *  is what every system reads. */
import { viewOf } from '../../bytes/integers.ts'
import type { NewNode } from '../new-tree.ts'
import { recordHead, sectorBytes } from './layout.ts'

/** A record has at most this many bytes: an even number below 256. */
const mostRecordBytes = 254
const continuationBytes = 28
const mostFieldBytes = 255

/** Writes a number of 16 bits twice. */
export function setBoth16(view: DataView, at: number, value: number): void {
  view.setUint16(at, value, true)
  view.setUint16(at + 2, value)
}

/** Writes a number of 32 bits twice. */
export function setBoth32(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true)
  view.setUint32(at + 4, value)
}

const dateBytes = 7
/** The last date that was written: files that stand together are often of one time. */
let lastDate: { seconds: number; bytes: Uint8Array } | undefined

/** A date in 7 bytes, in UTC; years from 1900 to 2155. It is not to be written to. */
function shortDate(seconds: number): Uint8Array {
  if (lastDate?.seconds !== seconds) lastDate = { seconds, bytes: dateOf(seconds) }
  return lastDate.bytes
}

function dateOf(seconds: number): Uint8Array {
  const first = Date.UTC(1900, 0, 1) / 1000
  const last = Date.UTC(2155, 11, 31, 23, 59, 59) / 1000
  const date = new Date(Math.min(Math.max(Math.floor(seconds), first), last) * 1000)
  const year = date.getUTCFullYear() - 1900
  const day = [year, date.getUTCMonth() + 1, date.getUTCDate()]
  return Uint8Array.from([...day, date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds(), 0])
}

/** A date in 17 bytes, in UTC; without one, the date that says nothing. */
export function longDate(seconds: number | undefined): Uint8Array {
  const digits =
    seconds === undefined
      ? '0'.repeat(16)
      : `${new Date(seconds * 1000).toISOString().replaceAll(/\D/g, '').slice(0, 14)}00`
  return ascii(`${digits}\0`)
}

/** Characters as bytes; those that are none are question marks. */
export function ascii(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  let at = 0
  for (let from = 0; from < text.length; from++) {
    const unit = text.charCodeAt(from)
    bytes[at++] = unit < 0x80 ? unit : 0x3f
    // A pair is one character.
    if (unit >= 0xd800 && unit < 0xdc00 && (text.charCodeAt(from + 1) & 0xfc00) === 0xdc00) from++
  }
  return bytes.subarray(0, at)
}

/** UTF-16 with the high byte first. */
export function utf16be(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2)
  const view = viewOf(bytes)
  for (let at = 0; at < text.length; at++) view.setUint16(at * 2, text.charCodeAt(at))
  return bytes
}

/** What a directory record says. */
export interface NewRecord {
  identifier: Uint8Array
  block: number
  size: number
  modified: number
  flags: number
  systemUse: Uint8Array
}

/** Bytes of a record. */
export function recordLength(identifierBytes: number, systemUseBytes: number): number {
  const head = recordHead + identifierBytes
  const all = head + (head % 2) + systemUseBytes
  return all + (all % 2)
}

/** Room in which one record after the other is made: arrays of their size each stand outside of the heap, and there are as many as files. */
export interface RecordRoom {
  record: Uint8Array
  systemUse: Uint8Array
  encoder: InstanceType<typeof TextEncoder>
}

/** Makes such a room. */
export function recordRoom(): RecordRoom {
  const [record, systemUse] = [new Uint8Array(mostRecordBytes), new Uint8Array(mostRecordBytes)]
  return { record, systemUse, encoder: new TextEncoder() }
}

/** A record, which stands in the room until the next one. */
export function writeRecord(
  { identifier, block, size, modified, flags, systemUse }: NewRecord,
  room: Pick<RecordRoom, 'record'>,
): Uint8Array {
  const bytes = room.record.subarray(0, recordLength(identifier.length, systemUse.length)).fill(0)
  const view = viewOf(bytes)
  bytes[0] = bytes.length
  setBoth32(view, 2, block)
  setBoth32(view, 10, size)
  bytes.set(shortDate(modified), 18)
  bytes[25] = flags
  setBoth16(view, 28, 1)
  bytes[32] = identifier.length
  bytes.set(identifier, recordHead)
  const head = recordHead + identifier.length
  bytes.set(systemUse, head + (head % 2))
  return bytes
}

/** System use of a record, and what does not fit into it: areas of up to a sector each. */
export interface SystemUse {
  inRecord: Uint8Array
  areas: Uint8Array[]
}

/** Lays fields out; `identifierBytes` are those of the record they belong to. Where areas are needed, the record and each area but the last end in a field that `pointAt` fills. */
export function layFields(fields: readonly Uint8Array[], identifierBytes: number): SystemUse {
  const head = recordHead + identifierBytes
  const rooms = (index: number): number => (index === 0 ? mostRecordBytes - head - (head % 2) : sectorBytes)
  const parts: Uint8Array[][] = []
  let rest = fields
  for (let index = 0; index === 0 || rest.length > 0; index++) {
    const room = rooms(index)
    let count = fitting(rest, room)
    // What goes on needs a field that says where.
    if (count < rest.length) count = fitting(rest, room - continuationBytes)
    const part = rest.slice(0, count)
    rest = rest.slice(count)
    parts.push(rest.length > 0 ? [...part, new Uint8Array(continuationBytes)] : [...part])
  }
  const [inRecord = new Uint8Array(0), ...areas] = parts.map(joined)
  return { inRecord, areas }
}

function fitting(fields: readonly Uint8Array[], room: number): number {
  let left = room
  const stops = fields.findIndex(({ length }) => {
    left -= length
    return left < 0
  })
  return stops < 0 ? fields.length : stops
}

/** Writes where the next area is into the last field of a part. */
export function pointAt(part: Uint8Array, place: number, length: number): void {
  const field = part.subarray(part.length - continuationBytes)
  const view = viewOf(field)
  field.set([0x43, 0x45, continuationBytes, 1])
  setBoth32(view, 4, Math.floor(place / sectorBytes))
  setBoth32(view, 12, place % sectorBytes)
  setBoth32(view, 20, length)
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

function field(signature: string, data: Uint8Array): Uint8Array {
  return joined([ascii(signature), Uint8Array.of(data.length + 4, 1), data])
}

const types = { file: 0o100000, directory: 0o040000, symlink: 0o120000 } as const

/** Type and permissions of a node. */
export function modeOf({ entry }: NewNode): number {
  const permissions = entry.kind === 'symlink' ? 0o777 : entry.kind === 'directory' ? 0o755 : 0o644
  return types[entry.kind] | ((entry.mode ?? permissions) & 0o7777)
}

const posixBytes = 36
const timesBytes = 5 + 3 * dateBytes
const nameHeadBytes = 5

/** Bytes of a text in UTF-8, as `TextEncoder` writes it. */
function utf8Bytes(text: string): number {
  let bytes = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    // Of a pair each half counts two; a half without the other becomes a sign of three bytes.
    const isPair = (unit & 0xf800) === 0xd800 && isHalf(text, at, unit)
    bytes += unit < 0x80 ? 1 : unit < 0x800 || isPair ? 2 : 3
  }
  return bytes
}

function isHalf(text: string, at: number, unit: number): boolean {
  return unit < 0xdc00 ? (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00 : (text.charCodeAt(at - 1) & 0xfc00) === 0xd800
}

/** Bytes of the system use of a record whose fields all fit into it, as those of most do; undefined for the others. */
export function shortUseBytes({ name, entry }: NewNode, identifierBytes: number, named: boolean): number | undefined {
  if (named && entry.kind === 'symlink') return undefined
  const head = recordHead + identifierBytes
  const all = posixBytes + timesBytes + (named ? nameHeadBytes + utf8Bytes(name) : 0)
  return all <= mostRecordBytes - head - (head % 2) ? all : undefined
}

/** The same fields as `ridgeFields`, of a node whose record takes them all: this is done for every file, so it is done in one piece. They stand in the room until the next ones. */
export function shortUse(
  node: NewNode,
  { links, time, bytes: length, named }: { links: number; time: number; bytes: number; named: boolean },
  room: Pick<RecordRoom, 'systemUse' | 'encoder'>,
): Uint8Array {
  const { entry } = node
  const bytes = room.systemUse.subarray(0, length).fill(0)
  const view = viewOf(bytes)
  view.setUint32(0, 0x50580000 | (posixBytes << 8) | 1)
  setBoth32(view, 4, modeOf(node))
  setBoth32(view, 12, links)
  setBoth32(view, 20, entry.uid ?? 0)
  setBoth32(view, 28, entry.gid ?? 0)
  view.setUint32(posixBytes, 0x54460000 | (timesBytes << 8) | 1)
  bytes[posixBytes + 4] = 0x0e
  const date = shortDate(entry.modified ?? time)
  for (let index = 0; index < 3; index++) bytes.set(date, posixBytes + 5 + index * dateBytes)
  if (!named) return bytes
  const at = posixBytes + timesBytes
  view.setUint32(at, 0x4e4d0000 | ((length - at) << 8) | 1)
  room.encoder.encodeInto(node.name, bytes.subarray(at + nameHeadBytes))
  return bytes
}

/** The Rock Ridge fields of a node. `named`: with its name, as in the records of its parent; those of a directory about itself and its parent have none. */
export function ridgeFields(
  node: NewNode,
  { links, time, named }: { links: number; time: number; named: boolean },
): Uint8Array[] {
  const { entry } = node
  const posix = new Uint8Array(32)
  const view = viewOf(posix)
  for (const [index, value] of [modeOf(node), links, entry.uid ?? 0, entry.gid ?? 0].entries()) {
    setBoth32(view, index * 8, value)
  }
  const date = shortDate(entry.modified ?? time)
  // Modification, access, and change of attributes.
  const times = joined([Uint8Array.of(0x0e), date, date, date])
  return [
    field('PX', posix),
    field('TF', times),
    ...(named ? nameFields(node.name) : []),
    ...(named && entry.kind === 'symlink' ? linkFields(entry.target ?? '') : []),
  ]
}

function nameFields(name: string): Uint8Array[] {
  const bytes = new TextEncoder().encode(name)
  const room = mostFieldBytes - 5
  const fields: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += room) {
    const goesOn = at + room < bytes.length ? 1 : 0
    fields.push(field('NM', joined([Uint8Array.of(goesOn), bytes.subarray(at, at + room)])))
  }
  return fields
}

/** The components of a link's target, cut where a field or a component would be too long. */
function linkFields(target: string): Uint8Array[] {
  const components = (target.startsWith('/') ? [''] : []).concat(target.split('/').filter((name) => name !== ''))
  const pieces = components.flatMap((name, index): Uint8Array[] => {
    if (name === '' && index === 0) return [Uint8Array.of(8, 0)]
    if (name === '.') return [Uint8Array.of(2, 0)]
    if (name === '..') return [Uint8Array.of(4, 0)]
    const bytes = new TextEncoder().encode(name)
    const room = mostFieldBytes - 7
    const cuts: Uint8Array[] = []
    for (let at = 0; at < bytes.length; at += room) {
      const part = bytes.subarray(at, at + room)
      cuts.push(joined([Uint8Array.of(at + room < bytes.length ? 1 : 0, part.length), part]))
    }
    return cuts
  })
  const fields: Uint8Array[] = []
  let rest = pieces
  while (rest.length > 0) {
    const count = Math.max(1, fitting(rest, mostFieldBytes - 5))
    const goesOn = count < rest.length ? 1 : 0
    fields.push(field('SL', joined([Uint8Array.of(goesOn), ...rest.slice(0, count)])))
    rest = rest.slice(count)
  }
  return fields
}

/** The field that stands first in the root: SUSP is used. */
export const susp = Uint8Array.of(0x53, 0x50, 7, 1, 0xbe, 0xef, 0)

/** The field that says which extension is used. */
export function extensionField(): Uint8Array {
  const id = 'RRIP_1991A'
  const text = 'THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS'
  const source =
    'PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.'
  return field('ER', joined([Uint8Array.of(id.length, text.length, source.length, 1), ascii(id + text + source)]))
}
