/** The log: changes of metadata that were promised and perhaps not made. What is in it counts before anything else is read.
 *  Source: MS-VHDX 2.3. */
import { crc32cWithout } from '../../bytes/crc32c.ts'
import { readGuid, writeGuid } from '../../bytes/guid.ts'
import { roundUp, setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { lengths, mib, vhdxFault } from './layout.ts'

const sector = lengths.logSector
const headBytes = 64
const descriptorBytes = 32
/** Letters as a little-endian number. */
const signatures = { entry: 0x6567_6f6c, data: 0x6373_6564, zero: 0x6f72_657a, sector: 0x6174_6164 }
const field = { checksum: 4, length: 8, tail: 12, sequence: 16, descriptors: 24, guid: 32, flushed: 48, last: 56 }

/** One entry of the log. Offsets and lengths in bytes. */
export interface LogEntry {
  /** Where it begins in the log. */
  at: number
  length: number
  /** Where the oldest entry begins that is needed with this one. */
  tail: number
  sequence: bigint
  /** The file was at least as long when this was written. */
  flushedFileOffset: number
  /** The file must be at least as long once this is replayed. */
  lastFileOffset: number
  /** How many changes it makes. */
  descriptors: number
}

/** Most changes of a log that is replayed: it may have two million of a line each, and every read looks through them. */
const mostChanges = 262_144

/** The entries that must be replayed, the oldest first; none when there is no valid sequence (an entry that was cut while it was written does not
 *  count, and what it was to change is unchanged then).
 *  @throws MoraineError `limit` when the log would cost too much to read. */
export function findLogSequence(path: string, log: Uint8Array, guid: string): LogEntry[] {
  const reader = new LogReader(path, log, guid)
  let best: LogEntry[] = []
  for (let at = 0; at < log.length; ) {
    const run = reader.sequenceAt(at)
    const head = run.at(-1)
    if (head === undefined) {
      at += sector
      continue
    }
    const tail = run.findIndex((entry) => entry.at === head.tail)
    const greatest = best.at(-1)
    if (tail >= 0 && (greatest === undefined || head.sequence > greatest.sequence)) best = run.slice(tail)
    const next = head.at + head.length
    // The sequence went around the end.
    if (next <= at || next > log.length) break
    at = next
  }
  return best
}

class LogReader {
  readonly #path: string
  readonly #log: Uint8Array
  readonly #guid: string
  readonly #seen = new Map<number, LogEntry | undefined>()
  /** Bytes whose checksums may still be computed: entries that lie about their length could ask for any number. */
  #budget: number

  constructor(path: string, log: Uint8Array, guid: string) {
    this.#path = path
    this.#log = log
    this.#guid = guid
    this.#budget = log.length * 8
  }

  /** Entries that follow each other, by place and by number. */
  sequenceAt(start: number): LogEntry[] {
    const run: LogEntry[] = []
    let left = this.#log.length
    for (let at = start; ; ) {
      const entry = this.#entryAt(at)
      const last = run.at(-1)
      if (entry === undefined || entry.length > left) return run
      if (last !== undefined && entry.sequence !== last.sequence + 1n) return run
      run.push(entry)
      left -= entry.length
      at = (at + entry.length) % this.#log.length
    }
  }

  #entryAt(at: number): LogEntry | undefined {
    if (!this.#seen.has(at)) this.#seen.set(at, this.#read(at))
    return this.#seen.get(at)
  }

  #read(at: number): LogEntry | undefined {
    const head = viewOf(this.#log.subarray(at, at + sector))
    const length = head.getUint32(field.length, true)
    if (head.getUint32(0, true) !== signatures.entry || readGuid(this.#log, at + field.guid) !== this.#guid) {
      return undefined
    }
    if (length === 0 || length % sector !== 0 || length > this.#log.length) return undefined
    this.#budget -= length
    if (this.#budget < 0) {
      throw vhdxFault(this.#path, 'limit', 'log', { rule: 'entries that do not lie over each other' })
    }
    const bytes = this.#bytes(at, length)
    if (head.getUint32(field.checksum, true) !== crc32cWithout(bytes, field.checksum)) return undefined
    return decodeEntry(bytes, at, this.#log.length)
  }

  /** Bytes from the ring in one piece. */
  #bytes(at: number, length: number): Uint8Array {
    if (at + length <= this.#log.length) return this.#log.subarray(at, at + length)
    const bytes = new Uint8Array(length)
    const first = this.#log.subarray(at)
    bytes.set(first)
    bytes.set(this.#log.subarray(0, length - first.length), first.length)
    return bytes
  }
}

function decodeEntry(bytes: Uint8Array, at: number, logLength: number): LogEntry | undefined {
  const view = viewOf(bytes)
  const sequence = view.getBigUint64(field.sequence, true)
  const tail = view.getUint32(field.tail, true)
  const count = view.getUint32(field.descriptors, true)
  const descriptorArea = roundUp(headBytes + count * descriptorBytes, sector)
  if (sequence === 0n || tail % sector !== 0 || tail >= logLength || descriptorArea > bytes.length) return undefined
  let data = descriptorArea
  for (let i = 0; i < count; i++) {
    const descriptor = headBytes + i * descriptorBytes
    const offset = u64le(view, descriptor + 16)
    if (view.getBigUint64(descriptor + 24, true) !== sequence || offset % sector !== 0) return undefined
    const kind = view.getUint32(descriptor, true)
    if (kind === signatures.zero) {
      const length = u64le(view, descriptor + 8)
      if (length % sector !== 0 || !Number.isSafeInteger(offset + length)) return undefined
    } else if (kind === signatures.data) {
      if (data + sector > bytes.length || !Number.isSafeInteger(offset)) return undefined
      const stamp = (BigInt(view.getUint32(data + 4, true)) << 32n) | BigInt(view.getUint32(data + 4092, true))
      if (view.getUint32(data, true) !== signatures.sector || stamp !== sequence) return undefined
      data += sector
    } else return undefined
  }
  return {
    at,
    length: bytes.length,
    tail,
    sequence,
    flushedFileOffset: u64le(view, field.flushed),
    lastFileOffset: u64le(view, field.last),
    descriptors: count,
  }
}

/** What entries write into the file, in their order. Their bytes stay in the log until they are asked for. */
export class LogChanges {
  readonly count: number
  /** Byte offsets in the file. */
  readonly offsets: Float64Array
  /** Bytes. */
  readonly lengths: Float64Array
  readonly #log: Uint8Array
  /** Where in the log a change's descriptor stands, and its sector; −1 for zeros. */
  readonly #descriptors: Uint32Array
  readonly #sectors: Int32Array

  /** @throws MoraineError `limit` when there are too many. */
  constructor(path: string, log: Uint8Array, entries: readonly LogEntry[]) {
    this.count = entries.reduce((sum, { descriptors }) => sum + descriptors, 0)
    if (this.count > mostChanges) {
      throw vhdxFault(path, 'limit', 'log', { value: this.count, rule: `at most ${mostChanges} changes to replay` })
    }
    this.#log = log
    this.offsets = new Float64Array(this.count)
    this.lengths = new Float64Array(this.count)
    this.#descriptors = new Uint32Array(this.count)
    this.#sectors = new Int32Array(this.count)
    let next = 0
    for (const entry of entries) next = this.#add(entry, next)
  }

  #add({ at, descriptors }: LogEntry, first: number): number {
    const view = viewOf(this.#log)
    let data = roundUp(headBytes + descriptors * descriptorBytes, sector)
    for (let i = 0; i < descriptors; i++) {
      const index = first + i
      // The log is a ring of whole sectors, and no descriptor passes one.
      const place = (at + headBytes + i * descriptorBytes) % this.#log.length
      const zero = view.getUint32(place, true) === signatures.zero
      this.#descriptors[index] = place
      this.offsets[index] = u64le(view, place + 16)
      this.lengths[index] = zero ? u64le(view, place + 8) : sector
      this.#sectors[index] = zero ? -1 : (at + data) % this.#log.length
      if (!zero) data += sector
    }
    return first + descriptors
  }

  /** The bytes of a change; undefined for zeros. */
  bytes(index: number): Uint8Array | undefined {
    const from = this.#sectors[index] as number
    if (from < 0) return undefined
    const descriptor = this.#descriptors[index] as number
    const content = this.#log.slice(from, from + sector)
    content.set(this.#log.subarray(descriptor + 8, descriptor + 16), 0)
    content.set(this.#log.subarray(descriptor + 4, descriptor + 8), 4092)
    return content
  }
}

/** Checks entries against the file that they shall be replayed into; the file's length afterwards, in bytes.
 *  @throws MoraineError `corrupt` when the file is shorter than it was, or an entry would write past where the file shall end. */
export function lengthAfterReplay(
  path: string,
  entries: readonly LogEntry[],
  changes: LogChanges,
  fileSize: number,
): number {
  const head = entries.at(-1)
  if (head === undefined) return fileSize
  if (head.flushedFileOffset > fileSize) {
    throw vhdxFault(path, 'corrupt', 'flushed file offset', {
      value: head.flushedFileOffset,
      rule: `at most the length of the file, ${fileSize}: it was cut`,
    })
  }
  let length = fileSize
  for (const { lastFileOffset } of entries) length = Math.max(length, roundUp(lastFileOffset, mib))
  for (let i = 0; i < changes.count; i++) {
    const offset = changes.offsets[i] as number
    if (Number.isSafeInteger(length) && offset + (changes.lengths[i] as number) <= length) continue
    throw vhdxFault(path, 'corrupt', 'log entry', { value: offset, rule: `changes within ${length} bytes` })
  }
  return length
}

/** How many sectors one entry can change that takes up to `bytes` of the log. */
export function sectorsInEntry(bytes: number): number {
  const sectors = Math.floor(bytes / sector)
  let data = Math.max(0, sectors - 1)
  while (data > 0 && roundUp(headBytes + data * descriptorBytes, sector) / sector + data > sectors) data--
  return data
}

/** An entry that writes whole sectors of 4 KiB, to be put at `at` of the log and to stand alone there. `fileSize` in bytes. */
export function encodeLogEntry(
  guid: string,
  sequence: bigint,
  at: number,
  sectors: readonly { offset: number; bytes: Uint8Array }[],
  fileSize: number,
): Uint8Array<ArrayBuffer> {
  const descriptorArea = roundUp(headBytes + sectors.length * descriptorBytes, sector)
  const bytes = new Uint8Array(descriptorArea + sectors.length * sector)
  const view = viewOf(bytes)
  view.setUint32(0, signatures.entry, true)
  view.setUint32(field.length, bytes.length, true)
  view.setUint32(field.tail, at, true)
  view.setBigUint64(field.sequence, sequence, true)
  view.setUint32(field.descriptors, sectors.length, true)
  writeGuid(bytes, field.guid, guid)
  setU64le(view, field.flushed, fileSize)
  setU64le(view, field.last, fileSize)
  for (const [i, { offset, bytes: content }] of sectors.entries()) {
    const descriptor = headBytes + i * descriptorBytes
    const data = descriptorArea + i * sector
    bytes.set(content, data)
    bytes.copyWithin(descriptor + 8, data, data + 8)
    bytes.copyWithin(descriptor + 4, data + 4092, data + 4096)
    view.setUint32(descriptor, signatures.data, true)
    setU64le(view, descriptor + 16, offset)
    view.setBigUint64(descriptor + 24, sequence, true)
    view.setUint32(data, signatures.sector, true)
    view.setUint32(data + 4, Number(sequence >> 32n), true)
    view.setUint32(data + 4092, Number(sequence & 0xffff_ffffn), true)
  }
  view.setUint32(field.checksum, crc32cWithout(bytes, field.checksum), true)
  return bytes
}
