/** Writes FAT volumes of 12, 16 and 32 bits with long names, front to back. The same files and options make the same bytes. Facts: Microsoft's FAT specification (2005). */
import { crc32 } from '../../bytes/crc32.ts'
import { roundUp } from '../../bytes/integers.ts'
import { MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { StreamPlan } from '../../format/format.ts'
import { contentChunks, gathered } from '../new-content.ts'
import { type NewEntry, type NewNode, newTree } from '../new-tree.ts'
import {
  entryBytes,
  type FatBits,
  type FatGeometry,
  type FatLayout,
  type FatRun,
  fatSector,
  layFatVolume,
} from './new-layout.ts'
import { longEntries } from './new-names.ts'

/** How a new volume is made. */
export interface FatVolumeOptions {
  /** Up to eleven characters; default none. */
  label?: string | undefined
  /** Bytes of the volume, a multiple of 512; default the smallest number of MiB that holds everything. */
  size?: number | undefined
  /** Default: 12 bits below 16 MiB, 16 below 512 MiB, 32 from there on. */
  bits?: FatBits | undefined
  /** Seconds since 1970: the time of files that have none, and of the label. Default: now. */
  time?: number | undefined
  /** The number of the volume; default made of label and time. */
  serial?: number | undefined
}

const media = 0xf8
const chunkBytes = 1024 * 1024
const attributes = { readOnly: 1, label: 8, directory: 16, archive: 32 } as const

/** Plans a volume of the files. They are opened when their turn comes, and read once.
 *  @throws MoraineError `invalid` for names and options that break a rule; `limit` for what does not fit; from `chunks` also `io`, where a file has another size than it had. */
export function planFatVolume(
  entries: readonly NewEntry[],
  options: FatVolumeOptions = {},
): StreamPlan & { readonly length: number; readonly bits: FatBits } {
  const { size, bits, label = '' } = options
  const refuse = (field: string, value: string | number, rule: string): MoraineError =>
    new MoraineError('invalid', `the ${field} of a new FAT volume breaks a rule`, { format: 'fat', field, value, rule })
  if (!/^[\x20-\x7e]{0,11}$/.test(label) || /["*+,./:;<=>?[\\\]|]/.test(label)) {
    throw refuse('label', label, 'at most eleven characters of ASCII, none of "*+,./:;<=>?[\\]|')
  }
  if (size !== undefined && (!Number.isSafeInteger(size) || size <= 0 || size % fatSector !== 0)) {
    throw refuse('size', size, `a multiple of ${fatSector}`)
  }
  const time = Math.floor(options.time ?? Date.now() / 1000)
  const layout = layFatVolume(newTree(entries), { size, bits })
  const serial = options.serial ?? crc32(new TextEncoder().encode(`${label} ${time}`))
  const { geometry } = layout
  return {
    length: geometry.sectors * fatSector,
    bits: geometry.bits,
    chunks: (signal) => gathered(pieces(signal), signal),
  }

  async function* pieces(signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    yield reservedSectors(layout, label, serial)
    for (let copy = 0; copy < 2; copy++) yield* tableBytes(layout, signal)
    if (geometry.rootEntries > 0) {
      yield padded(directoryBytes(layout, layout.root, { label, time }), geometry.rootEntries * entryBytes)
    }
    const clusterBytes = geometry.sectorsPerCluster * fatSector
    let used = 0
    for (const [node, { count }] of layout.runs) {
      used += count
      if (node.entry.kind === 'directory') {
        yield padded(directoryBytes(layout, node, { label, time }), count * clusterBytes)
        continue
      }
      yield* contentChunks(node, signal)
      const rest = count * clusterBytes - (node.entry.size ?? 0)
      if (rest > 0) yield new Uint8Array(rest)
    }
    yield* zeros(geometry.sectors * fatSector - dataStart(geometry) - used * clusterBytes, signal)
  }
}

function* zeros(length: number, signal: AbortSignal | undefined): Generator<Uint8Array> {
  const chunk = new Uint8Array(Math.min(chunkBytes, length))
  for (let left = length; left > 0; left -= chunk.length) {
    throwIfCancelled(signal)
    yield left < chunk.length ? chunk.subarray(0, left) : chunk
  }
}

/** Byte offset of the first cluster. */
function dataStart({ reserved, tableSectors, rootEntries }: FatGeometry): number {
  return (reserved + 2 * tableSectors) * fatSector + rootEntries * entryBytes
}

function padded(bytes: Uint8Array, length: number): Uint8Array {
  const all = new Uint8Array(length)
  all.set(bytes)
  return all
}

function setText(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i)
}

/** The boot sector, and with 32 bits what belongs to it: the counts of free clusters, and a copy of both. */
function reservedSectors({ geometry, runs }: FatLayout, label: string, serial: number): Uint8Array {
  const { bits, reserved } = geometry
  const bytes = new Uint8Array(reserved * fatSector)
  bytes.set(bootSector(geometry, label, serial))
  if (bits !== 32) return bytes
  const view = new DataView(bytes.buffer)
  let used = 0
  for (const { count } of runs.values()) used += count
  view.setUint32(fatSector, 0x41615252, true)
  view.setUint32(fatSector + 484, 0x61417272, true)
  view.setUint32(fatSector + 488, geometry.clusters - used, true)
  view.setUint32(fatSector + 492, used + 2, true)
  view.setUint32(fatSector + 508, 0xaa550000, true)
  bytes.copyWithin(6 * fatSector, 0, 2 * fatSector)
  return bytes
}

function bootSector(geometry: FatGeometry, label: string, serial: number): Uint8Array {
  const { bits, sectors, sectorsPerCluster, reserved, tableSectors, rootEntries } = geometry
  const bytes = new Uint8Array(fatSector)
  const view = new DataView(bytes.buffer)
  const is32 = bits === 32
  const extended = is32 ? 64 : 36
  // A jump over the numbers to code that hands over to the next device: `int 18h`, then nothing.
  bytes.set([0xeb, extended + 26 - 2, 0x90])
  bytes.set([0xcd, 0x18, 0xeb, 0xfe], extended + 26)
  setText(bytes, 3, 'MSWIN4.1')
  view.setUint16(11, fatSector, true)
  bytes[13] = sectorsPerCluster
  view.setUint16(14, reserved, true)
  bytes[16] = 2
  view.setUint16(17, rootEntries, true)
  const isSmall = !is32 && sectors < 0x1_0000
  if (isSmall) view.setUint16(19, sectors, true)
  else view.setUint32(32, sectors, true)
  bytes[21] = media
  if (!is32) view.setUint16(22, tableSectors, true)
  view.setUint16(24, 63, true)
  view.setUint16(26, 255, true)
  if (is32) {
    view.setUint32(36, tableSectors, true)
    view.setUint32(44, 2, true)
    view.setUint16(48, 1, true)
    view.setUint16(50, 6, true)
  }
  bytes[extended] = 0x80
  bytes[extended + 2] = 0x29
  view.setUint32(extended + 3, serial, true)
  setText(bytes, extended + 7, (label === '' ? 'NO NAME' : label).padEnd(11))
  setText(bytes, extended + 18, `FAT${bits}`.padEnd(8))
  view.setUint16(510, 0xaa55, true)
  return bytes
}

/** One table: each run is a chain of its clusters. */
function* tableBytes({ geometry, runs }: FatLayout, signal: AbortSignal | undefined): Generator<Uint8Array> {
  const { bits, tableSectors } = geometry
  const end = bits === 32 ? 0x0fff_ffff : bits === 16 ? 0xffff : 0xfff
  const total = (tableSectors * fatSector * 8) / bits
  const list = [...runs.values()]
  let run = 0
  const entryOf = (cluster: number): number => {
    if (cluster === 0) return end - 0xff + media
    if (cluster === 1) return end
    while (run < list.length && cluster >= lastOf(list[run]) + 1) run++
    const current = list[run]
    if (current === undefined || cluster < current.first) return 0
    return cluster === lastOf(current) ? end : cluster + 1
  }
  // Three bytes hold two entries of 12 bits: whole pieces of both.
  const perChunk = (chunkBytes / 16) * 3
  for (let first = 0; first < total; first += perChunk) {
    throwIfCancelled(signal)
    const count = Math.min(perChunk, Math.ceil(total) - first)
    yield packEntries(bits, count, (index) => entryOf(first + index)).subarray(
      0,
      tableSectors * fatSector - (first * bits) / 8,
    )
  }
}

function lastOf(run: FatRun | undefined): number {
  return run === undefined ? 0 : run.first + run.count - 1
}

function packEntries(bits: FatBits, count: number, entryAt: (index: number) => number): Uint8Array {
  const bytes = new Uint8Array(roundUp(count * bits, 24) / 8 + 3)
  const view = new DataView(bytes.buffer)
  for (let index = 0; index < count; index++) {
    const value = entryAt(index)
    if (bits === 32) view.setUint32(index * 4, value, true)
    else if (bits === 16) view.setUint16(index * 2, value, true)
    else {
      const at = Math.floor((index * 3) / 2)
      const there = view.getUint16(at, true)
      view.setUint16(at, index % 2 === 0 ? (there & 0xf000) | value : (there & 0x000f) | (value << 4), true)
    }
  }
  return bytes.subarray(0, Math.ceil((count * bits) / 8))
}

function directoryBytes(
  layout: FatLayout,
  node: NewNode,
  { label, time }: { label: string; time: number },
): Uint8Array {
  const parts: Uint8Array[] = []
  const own = layout.runs.get(node)?.first ?? 0
  const blank = (text: string): Uint8Array => {
    const short = new Uint8Array(11).fill(0x20)
    setText(short, 0, text)
    return short
  }
  const modified = node.entry.modified ?? time
  if (node.parent === undefined) {
    if (label !== '') parts.push(shortEntry(blank(label), { attribute: attributes.label, first: 0, size: 0, time }))
  } else {
    const attribute = attributes.directory
    // The root is cluster 0 to what lies in it, wherever it is.
    const above = node.parent.parent === undefined ? 0 : (layout.runs.get(node.parent)?.first ?? 0)
    parts.push(shortEntry(blank('.'), { attribute, first: own, size: 0, time: modified }))
    parts.push(shortEntry(blank('..'), { attribute, first: above, size: 0, time: modified }))
  }
  for (const [child, name] of layout.names.get(node) ?? []) {
    const { kind, size = 0, mode, modified: changed = time } = child.entry
    const readOnly = mode !== undefined && (mode & 0o222) === 0 ? attributes.readOnly : 0
    const attribute = kind === 'directory' ? attributes.directory : attributes.archive | readOnly
    const first = layout.runs.get(child)?.first ?? 0
    parts.push(...longEntries(name))
    parts.push(shortEntry(name.short, { attribute, first, size: kind === 'directory' ? 0 : size, time: changed }))
  }
  const bytes = new Uint8Array(parts.length * entryBytes)
  for (const [index, part] of parts.entries()) bytes.set(part, index * entryBytes)
  return bytes
}

function shortEntry(
  short: Uint8Array,
  { attribute, first, size, time }: { attribute: number; first: number; size: number; time: number },
): Uint8Array {
  const bytes = new Uint8Array(entryBytes)
  const view = new DataView(bytes.buffer)
  const { date, clock } = dosTime(time)
  bytes.set(short)
  bytes[11] = attribute
  view.setUint16(14, clock, true)
  view.setUint16(16, date, true)
  view.setUint16(18, date, true)
  view.setUint16(20, first >>> 16, true)
  view.setUint16(22, clock, true)
  view.setUint16(24, date, true)
  view.setUint16(26, first & 0xffff, true)
  view.setUint32(28, size, true)
  return bytes
}

/** A time in UTC, to two seconds, from 1980 to 2107. */
function dosTime(seconds: number): { date: number; clock: number } {
  const first = Date.UTC(1980, 0, 1) / 1000
  const last = Date.UTC(2107, 11, 31, 23, 59, 58) / 1000
  const time = new Date(Math.min(Math.max(seconds, first), last) * 1000)
  return {
    date: ((time.getUTCFullYear() - 1980) << 9) | ((time.getUTCMonth() + 1) << 5) | time.getUTCDate(),
    clock: (time.getUTCHours() << 11) | (time.getUTCMinutes() << 5) | (time.getUTCSeconds() >>> 1),
  }
}
