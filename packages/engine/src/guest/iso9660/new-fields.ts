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

/** A date in 7 bytes, in UTC; years from 1900 to 2155. */
function shortDate(seconds: number): Uint8Array {
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
  return Uint8Array.from(text, (character) => (character <= '\u007f' ? character.charCodeAt(0) : 0x3f))
}

/** UTF-16 with the high byte first. */
export function utf16be(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2)
  for (let at = 0; at < text.length; at++) viewOf(bytes).setUint16(at * 2, text.charCodeAt(at))
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

/** A record. */
export function writeRecord({ identifier, block, size, modified, flags, systemUse }: NewRecord): Uint8Array {
  const bytes = new Uint8Array(recordLength(identifier.length, systemUse.length))
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
