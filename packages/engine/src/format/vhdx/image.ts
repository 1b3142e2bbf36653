/** The shared state of one open VHDX image: file, headers, regions, metadata, the table of blocks. */
import { zeroGuid } from '../../bytes/guid.ts'
import { type ByteSource, type ByteStore, isStore, MoraineError } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { BlockMap } from './block-map.ts'
import { encodeHeader, type Header, type Headers, readHeaders } from './headers.ts'
import { fileSignature, looksLikeVhdx, places, vhdxFault } from './layout.ts'
import { findLogSequence, LogChanges, type LogEntry, lengthAfterReplay } from './log.ts'
import { geometryOf, type Metadata, readMetadata } from './metadata.ts'
import { MetadataPages } from './pages.ts'
import { type Regions, readRegions } from './regions.ts'
import { ReplayedSource } from './replayed.ts'

/** What reading and writing share. */
export interface VhdxImage {
  /** The file as it was opened. */
  readonly source: ByteSource
  /** The same with its log replayed in memory, where there was one and nothing may be written. */
  readonly file: ByteSource
  /** The file, when it can be written. */
  readonly store: ByteStore | undefined
  readonly context: OpenContext
  readonly headers: Headers
  readonly regions: Regions
  readonly metadata: Metadata
  map: BlockMap
  /** The file had a log that was replayed. */
  readonly replayed: boolean
}

/** Opens the metadata that every use needs, after replaying the log: on disk when the file may be written, in memory otherwise.
 *  @throws MoraineError `not-this-format`, `denied` when it cannot be written and shall be, and what the structures say. */
export async function openImage(source: ByteSource, context: OpenContext): Promise<VhdxImage> {
  const write = context.mode === 'write'
  if (write && !isStore(source)) {
    throw new MoraineError('denied', 'the source cannot be written', { path: source.name, format: 'vhdx' })
  }
  const store = write && isStore(source) ? source : undefined
  await checkSignature(source)
  const headers = await readHeaders(source)
  const { entries, changes } = await readLog(source, headers.current, context)
  let file = source
  if (entries.length > 0) {
    const length = lengthAfterReplay(source.name, entries, changes, source.size)
    if (store === undefined) file = new ReplayedSource(source, changes, length)
    else await replay(store, headers, changes, length)
  }
  const { current } = headers
  const log = { offset: current.logOffset, length: current.logLength }
  const regions = await readRegions(file, log)
  const metadata = await readMetadata(file, regions.metadata)
  if (metadata.virtualSize > context.limits.virtualSize) {
    throw vhdxFault(source.name, 'limit', 'virtual disk size', {
      value: metadata.virtualSize,
      rule: `at most ${context.limits.virtualSize}`,
    })
  }
  const parts = { source, file, store, context, headers, regions, metadata, replayed: entries.length > 0 }
  return { ...parts, map: mapOf(parts) }
}

/** The table of blocks of an image, as its metadata and regions say now.
 *  @throws MoraineError `invalid` when the region is too short for it. */
export function mapOf({ source, file, context, headers, regions, metadata }: Omit<VhdxImage, 'map'>): BlockMap {
  const { current } = headers
  const log = { offset: current.logOffset, length: current.logLength }
  const differencing = metadata.parent !== undefined
  const geometry = geometryOf(metadata, differencing)
  if (geometry.entries * 8 > regions.blocks.length) {
    throw vhdxFault(source.name, 'invalid', 'region length', {
      value: regions.blocks.length,
      rule: `at least 8 bytes for each of ${geometry.entries} blocks and bitmaps`,
    })
  }
  return new BlockMap({
    path: source.name,
    table: regions.blocks,
    taken: [...regions.all, log].filter(({ length }) => length > 0).sort((a, b) => a.offset - b.offset),
    geometry,
    size: metadata.virtualSize,
    differencing,
    pages: new MetadataPages(file, regions.blocks, context.limits.cacheBytes),
    fileSize: () => file.size,
  })
}

async function checkSignature(source: ByteSource): Promise<void> {
  const bytes = new Uint8Array(Math.min(fileSignature.length, source.size))
  await source.read(0, bytes)
  if (looksLikeVhdx(bytes)) return
  throw vhdxFault(source.name, 'not-this-format', 'signature', { rule: fileSignature })
}

/** The entries that must be replayed, and what they change. */
interface PendingLog {
  entries: LogEntry[]
  changes: LogChanges
}

async function readLog(source: ByteSource, header: Header, context: OpenContext): Promise<PendingLog> {
  const { logGuid, logLength, logOffset } = header
  const none = new Uint8Array(0)
  if (logGuid === zeroGuid || logLength === 0) return { entries: [], changes: new LogChanges(source.name, none, []) }
  if (logLength > context.limits.tableBytes) {
    throw vhdxFault(source.name, 'limit', 'log length', {
      value: logLength,
      rule: `at most ${context.limits.tableBytes} bytes for a log that must be replayed`,
    })
  }
  if (logOffset + logLength > source.size) {
    throw vhdxFault(source.name, 'corrupt', 'log offset', {
      value: logOffset,
      rule: `a log inside the file of ${source.size} bytes`,
    })
  }
  const log = new Uint8Array(logLength)
  await source.read(logOffset, log)
  const entries = findLogSequence(source.name, log, logGuid)
  return { entries, changes: new LogChanges(source.name, log, entries) }
}

/** Writes what the log promises, then says in the headers that it is empty. A power cut on the way leaves the log as it is. */
async function replay(store: ByteStore, headers: Headers, changes: LogChanges, length: number): Promise<void> {
  if (store.size < length && store.kind !== 'device') await store.resize(length)
  for (let i = 0; i < changes.count; i++) {
    const offset = changes.offsets[i] as number
    const bytes = changes.bytes(i)
    if (bytes === undefined) await store.zero(offset, changes.lengths[i] as number, 'unmap')
    else await store.write(offset, bytes)
  }
  await store.flush()
  await updateHeader(store, headers, { logGuid: zeroGuid })
  await updateHeader(store, headers, {})
}

/** Makes the other header the current one, with the next number and these fields changed; it has reached the file when this returns. */
export async function updateHeader(store: ByteStore, headers: Headers, changes: Partial<Header>): Promise<void> {
  const slot = headers.slot === 0 ? 1 : 0
  const header = { ...headers.current, ...changes, sequence: headers.current.sequence + 1n }
  const bytes = encodeHeader(header, headers.bytes[slot])
  await store.write(places.headers[slot], bytes)
  await store.flush()
  headers.current = header
  headers.slot = slot
  headers.bytes[slot] = bytes
  headers.valid[slot] = true
}
