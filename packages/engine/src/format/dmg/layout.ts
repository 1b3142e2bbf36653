/** DMG (UDIF) images on disk: the trailer, the property list or resource fork that it points at, and the tables of chunks in there; all numbers
 *  big-endian. Facts: the behaviour of QEMU 7.2. */
import { roundUp, u64be, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type ErrorKind, type ErrorPlace, MoraineError, readPadded } from '../../core/index.ts'

/** `koly`, the magic of the trailer. */
const magic = 0x6b6f_6c79
/** `mish`, the magic of a table of chunks. */
const tableMagic = 0x6d69_7368
const trailerBytes = 512
const tableHead = 204
const chunkBytes = 40

/** Bounds on what an image may ask for: QEMU's. */
const most = { chunkSectors: 131_072, chunkBytes: 64 * 1024 * 1024, metadata: 16 * 1024 * 1024 }

/** What a chunk holds. */
export const chunkType = {
  zero: 0,
  raw: 1,
  ignored: 2,
  comment: 0x7fff_fffe,
  adc: 0x8000_0004,
  zlib: 0x8000_0005,
  bzip2: 0x8000_0006,
  lzfse: 0x8000_0007,
  lzma: 0x8000_0008,
  end: 0xffff_ffff,
} as const

/** A run of guest bytes. Bytes, unless the name says otherwise. */
export interface Chunk {
  type: number
  start: number
  size: number
  /** Where its bytes lie in the file, and how many. */
  host: number
  length: number
}

/** What an image says of itself. */
export interface Udif {
  /** Virtual size. */
  size: number
  /** In guest order, none over another. */
  chunks: Chunk[]
}

/** An error about a DMG image. */
export function dmgFault(path: string, kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'dmg', ...place })
}

/** Where the trailer begins within the last bytes of a file, −1 when there is none. Files of odd length exist: QEMU looks at 515 bytes, counted from
 *  the length in whole sectors. `tail` are the last bytes of the file, 1023 of them if there are so many. */
export function findTrailer(tail: Uint8Array, size: number): number {
  const view = viewOf(tail)
  const start = Math.max(0, roundUp(size, 512) - 1023)
  const first = Math.max(0, start - (size - tail.length))
  for (let at = first; at + 4 <= tail.length && at < first + 512; at++) if (view.getUint32(at) === magic) return at
  return -1
}

/** Reads trailer and tables.
 *  @throws MoraineError `not-this-format` without a trailer, `invalid`, `corrupt` and `limit` for what breaks a rule. */
export async function readUdif(file: ByteSource): Promise<Udif> {
  const refuse = (kind: ErrorKind, field: string, value: number, reason: string, rule: string): never => {
    throw dmgFault(file.name, kind, reason, { field, value, rule })
  }
  if (file.size < 512) {
    refuse('not-this-format', 'file size', file.size, 'dmg file must be at least 512 bytes long', '512 at least')
  }
  const tail = new Uint8Array(Math.min(file.size, 1536))
  await file.read(file.size - tail.length, tail)
  const at = findTrailer(tail, file.size)
  if (at < 0)
    throw dmgFault(file.name, 'not-this-format', 'Could not locate UDIF trailer in dmg file', { field: 'koly' })
  const offset = file.size - tail.length + at
  const bytes = new Uint8Array(trailerBytes)
  await readPadded(file, offset, bytes)
  const view = viewOf(bytes)
  const dataFork = u64be(view, 0x18)
  const fork = { name: 'rsrc_fork', offset: u64be(view, 0x28), length: u64be(view, 0x30) }
  const plist = { name: 'plist', offset: u64be(view, 0xd8), length: u64be(view, 0xe0) }
  const size = u64be(view, 0x1ec) * 512
  if (dataFork > offset) refuse('corrupt', 'data_fork_offset', dataFork, 'Invalid argument', `at most ${offset}`)
  for (const { name, offset: start, length } of [fork, plist]) {
    if (length === 0) continue
    if (!(start < offset && length <= offset - start)) {
      refuse('corrupt', `${name}_offset`, start, 'Invalid argument', `before the trailer at ${offset}`)
    }
    if (length > most.metadata)
      refuse('limit', `${name}_length`, length, 'Invalid argument', `at most ${most.metadata}`)
  }
  if (!Number.isSafeInteger(size)) refuse('limit', 'sector_count', size, 'Image is too big', 'less than 2^53 bytes')
  const source = fork.length > 0 ? fork : plist
  if (source.length === 0)
    refuse('invalid', 'plist_length', 0, 'Invalid argument', 'a property list or a resource fork')
  const metadata = new Uint8Array(source.length)
  await file.read(source.offset, metadata)
  const tables = source === fork ? forkTables(file.name, metadata) : plistTables(metadata)
  const chunks: Chunk[] = []
  for (const table of tables) readTable(file.name, table, dataFork, chunks)
  return { size, chunks: inOrder(file.name, chunks) }
}

/** The blobs of a resource fork. */
function* forkTables(path: string, fork: Uint8Array): Iterable<Uint8Array> {
  const refuse = (): never => {
    throw dmgFault(path, 'corrupt', 'Invalid argument', { field: 'resource fork', rule: 'resources within the fork' })
  }
  if (fork.length < 16) refuse()
  const view = viewOf(fork)
  let at = view.getUint32(0)
  const end = at + view.getUint32(8)
  if (end === at || end > fork.length) refuse()
  while (at < end) {
    if (at + 4 > end) refuse()
    const length = view.getUint32(at)
    if (length === 0 || length > end - at - 4) refuse()
    yield fork.subarray(at + 4, at + 4 + length)
    at += 4 + length
  }
}

/** The blobs of a property list: as QEMU does, every `data` element is looked at, whatever it is called. */
function* plistTables(plist: Uint8Array): Iterable<Uint8Array> {
  const text = new TextDecoder('latin1').decode(plist)
  for (let at = text.indexOf('<data>'); at >= 0; at = text.indexOf('<data>', at)) {
    const end = text.indexOf('</data>', at)
    if (end < 0) return
    const decoded = decodeBase64(text.slice(at + 6, end))
    if (decoded !== undefined) yield decoded
    at = end
  }
}

function decodeBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text.replace(/\s+/g, '')), (letter) => letter.charCodeAt(0))
  } catch {
    return undefined
  }
}

function readTable(path: string, table: Uint8Array, dataFork: number, chunks: Chunk[]): void {
  const view = viewOf(table)
  if (table.length < tableHead + chunkBytes || view.getUint32(0) !== tableMagic) return
  const firstSector = u64be(view, 8)
  const dataOffset = u64be(view, 24) + dataFork
  for (let at = tableHead; at + chunkBytes <= table.length; at += chunkBytes) {
    const type = view.getUint32(at)
    if (type === chunkType.end) return
    if (type === chunkType.comment) continue
    const index = chunks.length
    const sectors = u64be(view, at + 16)
    const length = u64be(view, at + 32)
    const stored = type !== chunkType.zero && type !== chunkType.ignored
    const fault = (value: number, what: string, bound: number): MoraineError =>
      dmgFault(path, 'limit', `${what} ${value} for chunk ${index} is larger than max (${bound})`, {
        field: 'chunk',
        value,
        rule: `at most ${bound}`,
      })
    if (stored && sectors > most.chunkSectors) throw fault(sectors, 'sector count', most.chunkSectors)
    if (stored && length > most.chunkBytes) throw fault(length, 'length', most.chunkBytes)
    const chunk = {
      type,
      start: (u64be(view, at + 8) + firstSector) * 512,
      size: sectors * 512,
      host: u64be(view, at + 24) + dataOffset,
      length: stored ? length : 0,
    }
    if (!Number.isSafeInteger(chunk.start + chunk.size) || (stored && !Number.isSafeInteger(chunk.host + length))) {
      throw dmgFault(path, 'corrupt', `chunk ${index} lies past any disk`, { field: 'chunk', value: chunk.start })
    }
    if (chunk.size > 0) chunks.push(chunk)
  }
}

function inOrder(path: string, chunks: Chunk[]): Chunk[] {
  chunks.sort((a, b) => a.start - b.start)
  for (let i = 1; i < chunks.length; i++) {
    const before = chunks[i - 1] as Chunk
    const chunk = chunks[i] as Chunk
    if (before.start + before.size <= chunk.start) continue
    throw dmgFault(path, 'corrupt', 'two chunks lie over each other', {
      field: 'chunk',
      value: chunk.start,
      rule: `behind byte ${before.start + before.size}`,
    })
  }
  return chunks
}
