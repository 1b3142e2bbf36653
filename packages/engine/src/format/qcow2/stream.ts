/** A qcow2 image written front to back, for pipes and sockets: header, refcounts, L1, L2 tables, then the data clusters in guest order.
 *  What is data follows from the extents of the source, which are walked once for each part, so that memory stays bounded at any size.
 *  Layout rules: QEMU's docs/interop/qcow2.txt. */
import { divideUp, setU64be, viewOf } from '../../bytes/integers.ts'
import { type Disk, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { type ClusterRun, ClusterRuns } from './cluster-runs.ts'
import { encodeHeader } from './header.ts'
import { bounds, compatible, entry, type Header, headerLengthV2, headerLengthWritten, incompatible } from './layout.ts'
import { planOptions, type Qcow2Plan } from './options.ts'
import { setCountAt } from './refcount-reader.ts'
import { refcountMetadataSize } from './refcounts.ts'

const chunkBytes = 1024 * 1024

/** Plans `disk` as a qcow2 image that stands alone: nothing packed, nothing preallocated, zeros not looked for.
 *  @throws MoraineError `unsupported` for options that need a target that can be written anywhere, `invalid` for contradicting ones or too large a size. */
export async function streamQcow2(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const plan = streamOptions(options)
  const clusterSize = 2 ** plan.clusterBits
  const l2EntrySize = plan.extendedL2 ? 16 : 8
  const l2Entries = clusterSize / l2EntrySize
  const runs = new ClusterRuns(disk, clusterSize)
  const { clusters, tables } = await countUse(runs, l2Entries)
  const layout = placeParts(plan, disk.size, clusters, tables)
  return {
    length: layout.clusters * clusterSize,
    chunks: (signal) => new Qcow2Stream(disk, plan, layout, runs).chunks(signal),
  }
}

/** The options of a stream.
 *  @throws MoraineError `unsupported` for those that need a target that can be written anywhere. */
export function streamOptions(options: OptionValues): Qcow2Plan {
  for (const name of ['backing_file', 'data_file', 'preallocation', 'encryption', 'encrypt.format'] as const) {
    if (options[name] !== undefined && options[name] !== 'off' && options[name] !== false) {
      throw new MoraineError(
        'unsupported',
        `option '${name}' cannot be used for an image that is written front to back`,
        {
          format: 'qcow2',
          field: name,
        },
      )
    }
  }
  return planOptions(options, false)
}

/** The header of an image that stands alone; offsets in bytes. */
export function streamHeader(
  plan: Qcow2Plan,
  size: number,
  places: { l1: number; l1Entries: number; refcountTable: number; refcountTableClusters: number },
  path: string,
): Uint8Array {
  const { version, clusterBits, refcountOrder, compression, extendedL2, lazyRefcounts } = plan
  const header: Header = {
    version,
    backingFileOffset: 0,
    backingFileSize: 0,
    clusterBits,
    size,
    cryptMethod: 0,
    l1Size: places.l1Entries,
    l1TableOffset: places.l1,
    refcountTableOffset: places.refcountTable,
    refcountTableClusters: places.refcountTableClusters,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatibleFeatures:
      (compression === 'zstd' ? incompatible.compression : 0n) | (extendedL2 ? incompatible.extendedL2 : 0n),
    compatibleFeatures: lazyRefcounts ? compatible.lazyRefcounts : 0n,
    autoclearFeatures: 0n,
    refcountOrder,
    headerLength: version === 3 ? headerLengthWritten : headerLengthV2,
    compressionType: compression === 'zstd' ? 1 : 0,
    unknownTail: new Uint8Array(),
    backingFile: undefined,
    backingFormat: undefined,
    dataFileName: undefined,
    crypto: undefined,
    bitmaps: undefined,
    names: new Map(),
    unknownExtensions: [],
  }
  return encodeHeader(header, path)
}

/** How many entries the L1 table of a disk of `size` bytes has.
 *  @throws MoraineError `invalid` when it would be too large. */
export function l1EntriesOf(plan: Qcow2Plan, size: number): number {
  const clusterSize = 2 ** plan.clusterBits
  const l2Entries = clusterSize / (plan.extendedL2 ? 16 : 8)
  const l1Entries = divideUp(size, clusterSize * l2Entries)
  if (l1Entries * 8 <= bounds.l1TableBytes) return l1Entries
  throw new MoraineError('invalid', "The image size is too large for file format 'qcow2'", {
    format: 'qcow2',
    field: 'size',
    value: size,
    hint: 'try using a larger cluster size',
  })
}

/** @throws MoraineError `invalid` when the refcount table is larger than readers take. */
export function checkRefcountTable(tableClusters: number, clusterSize: number): void {
  if (tableClusters * clusterSize <= Math.max(bounds.refcountTableBytes, clusterSize)) return
  throw new MoraineError('invalid', 'the refcount table would be too large (try using a larger cluster size)', {
    format: 'qcow2',
    field: 'refcount table',
    value: tableClusters * clusterSize,
    rule: `at most ${bounds.refcountTableBytes} bytes`,
  })
}

/** Which cluster every part begins at, and how many all take. */
interface Layout {
  refcountTable: number
  refcountTableClusters: number
  refcountBlocks: number
  refcountBlockCount: number
  l1: number
  l1Entries: number
  l2: number
  l2Tables: number
  data: number
  dataClusters: number
  clusters: number
}

async function countUse(runs: ClusterRuns, l2Entries: number): Promise<{ clusters: number; tables: number }> {
  let clusters = 0
  let tables = 0
  let last = -1
  for await (const { first, count } of runs.walk()) {
    clusters += count
    const from = Math.floor(first / l2Entries)
    const to = Math.floor((first + count - 1) / l2Entries)
    tables += to - from + (from === last ? 0 : 1)
    last = to
  }
  return { clusters, tables }
}

function placeParts(plan: Qcow2Plan, size: number, dataClusters: number, l2Tables: number): Layout {
  const clusterSize = 2 ** plan.clusterBits
  const l1Entries = l1EntriesOf(plan, size)
  const l1Clusters = divideUp(l1Entries * 8, clusterSize)
  const others = 1 + l1Clusters + l2Tables + dataClusters
  const { blocks, tableClusters } = refcountMetadataSize(others, clusterSize, 2 ** plan.refcountOrder, false)
  checkRefcountTable(tableClusters, clusterSize)
  const refcountBlocks = 1 + tableClusters
  const l1 = refcountBlocks + blocks
  const l2 = l1 + l1Clusters
  const data = l2 + l2Tables
  return {
    refcountTable: 1,
    refcountTableClusters: tableClusters,
    refcountBlocks,
    refcountBlockCount: blocks,
    l1,
    l1Entries,
    l2,
    l2Tables,
    data,
    dataClusters,
    clusters: data + dataClusters,
  }
}

/** One pass over all parts. */
class Qcow2Stream {
  readonly #disk: Disk
  readonly #plan: Qcow2Plan
  readonly #layout: Layout
  readonly #runs: ClusterRuns
  readonly #clusterSize: number
  readonly #l2Entries: number

  constructor(disk: Disk, plan: Qcow2Plan, layout: Layout, runs: ClusterRuns) {
    this.#disk = disk
    this.#plan = plan
    this.#layout = layout
    this.#runs = runs
    this.#clusterSize = 2 ** plan.clusterBits
    this.#l2Entries = this.#clusterSize / (plan.extendedL2 ? 16 : 8)
  }

  async *chunks(signal?: AbortSignal): AsyncIterable<Uint8Array> {
    yield this.#header()
    for (const part of [this.#refcountTable(), this.#refcountBlocks()]) {
      for (const chunk of part) {
        throwIfCancelled(signal, this.#disk.name)
        yield chunk
      }
    }
    yield* this.#l1(signal)
    yield* this.#l2(signal)
    yield* this.#data(signal)
  }

  #header(): Uint8Array {
    const { l1Entries, l1, refcountTable, refcountTableClusters } = this.#layout
    const places = {
      l1: l1 * this.#clusterSize,
      l1Entries,
      refcountTable: refcountTable * this.#clusterSize,
      refcountTableClusters,
    }
    return streamHeader(this.#plan, this.#disk.size, places, this.#disk.name)
  }

  *#refcountTable(): Iterable<Uint8Array> {
    const { refcountTableClusters, refcountBlocks, refcountBlockCount } = this.#layout
    const table = new Uint8Array(refcountTableClusters * this.#clusterSize)
    const view = viewOf(table)
    for (let i = 0; i < refcountBlockCount; i++) setU64be(view, i * 8, (refcountBlocks + i) * this.#clusterSize)
    yield table
  }

  /** Every cluster of the file is used once. */
  *#refcountBlocks(): Iterable<Uint8Array> {
    const { refcountBlockCount, clusters } = this.#layout
    const perBlock = (this.#clusterSize * 8) / 2 ** this.#plan.refcountOrder
    const full = refcountBlockCount > 1 ? this.#refcountBlock(perBlock) : undefined
    for (let i = 0; i < refcountBlockCount; i++) {
      const used = clusters - i * perBlock
      yield full !== undefined && used >= perBlock ? full : this.#refcountBlock(Math.min(used, perBlock))
    }
  }

  #refcountBlock(used: number): Uint8Array {
    const block = new Uint8Array(this.#clusterSize)
    const view = viewOf(block)
    for (let i = 0; i < used; i++) setCountAt(block, view, this.#plan.refcountOrder, i, 1)
    return block
  }

  async *#l1(signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    const { l1, l2, data } = this.#layout
    const out = new Chunks((l2 - l1) * this.#clusterSize)
    let host = l2 * this.#clusterSize
    for await (const range of this.#ranges(signal)) {
      while (!out.reaches(range * 8)) yield out.take()
      out.put(range * 8, host)
      host += this.#clusterSize
    }
    this.#sameAsPlanned(host === data * this.#clusterSize)
    while (out.left) yield out.take()
  }

  /** The indices of L1 entries that have an L2 table. */
  async *#ranges(signal: AbortSignal | undefined): AsyncIterable<number> {
    let last = -1
    for await (const { first, count } of this.#walk(signal)) {
      const to = Math.floor((first + count - 1) / this.#l2Entries)
      for (let range = Math.max(last + 1, Math.floor(first / this.#l2Entries)); range <= to; range++) yield range
      last = to
    }
  }

  async *#l2(signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    const { l2Tables, data } = this.#layout
    const { extendedL2 } = this.#plan
    const entryBytes = extendedL2 ? 16 : 8
    const out = new Chunks(l2Tables * this.#clusterSize)
    /** Where the table of the current range begins in this part; tables without data are not there at all. */
    let table = -1
    let range = -1
    let host = data * this.#clusterSize
    for await (const { first, count } of this.#walk(signal)) {
      for (let cluster = first; cluster < first + count; cluster++) {
        const index = cluster % this.#l2Entries
        const mine = (cluster - index) / this.#l2Entries
        if (mine !== range) {
          range = mine
          table++
        }
        const at = table * this.#clusterSize + index * entryBytes
        while (!out.reaches(at)) yield out.take()
        out.put(at, host)
        if (extendedL2) out.putAllSubclusters(at + 8)
        host += this.#clusterSize
      }
    }
    this.#sameAsPlanned(table + 1 === l2Tables)
    while (out.left) yield out.take()
  }

  /** The data clusters, read a chunk ahead of what was taken. */
  async *#data(signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    let left = this.#layout.dataClusters
    let next: Promise<Uint8Array> | undefined
    const most = Math.max(1, Math.floor(chunkBytes / this.#clusterSize))
    try {
      for await (const { first, count } of this.#walk(signal)) {
        for (let done = 0; done < count; done += most) {
          const clusters = Math.min(most, count - done)
          left -= clusters
          this.#sameAsPlanned(left >= 0)
          const before = next
          next = this.#read(first + done, clusters, signal)
          next.catch(() => {}) // Looked at in its turn.
          if (before !== undefined) yield await before
        }
      }
      this.#sameAsPlanned(left === 0)
      if (next !== undefined) yield await next
    } finally {
      await next?.catch(() => {}) // No read outlives the stream: the disk may be closed next.
    }
  }

  async #read(first: number, count: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    throwIfCancelled(signal, this.#disk.name)
    const bytes = new Uint8Array(count * this.#clusterSize)
    const offset = first * this.#clusterSize
    await this.#disk.read(offset, bytes.subarray(0, Math.min(bytes.length, this.#disk.size - offset)), signal)
    return bytes
  }

  async *#walk(signal: AbortSignal | undefined): AsyncIterable<ClusterRun> {
    for await (const run of this.#runs.walk(signal)) {
      throwIfCancelled(signal, this.#disk.name)
      yield run
    }
  }

  /** The length was promised before the first byte. */
  #sameAsPlanned(same: boolean): void {
    if (same) return
    throw new MoraineError('io', 'the source was changed while it was streamed', { path: this.#disk.name })
  }
}

/** Tables in chunks: entries in ascending order, zeros between them. Offsets count from the start of the part. */
class Chunks {
  readonly #length: number
  #start = 0
  #buffer: Uint8Array
  #view: DataView

  constructor(length: number) {
    this.#length = length
    this.#buffer = new Uint8Array(Math.min(chunkBytes, length))
    this.#view = viewOf(this.#buffer)
  }

  /** Whether the entry at `offset` lies in the current chunk; entries never lie across two. */
  reaches(offset: number): boolean {
    return offset < this.#start + this.#buffer.length
  }

  /** A host offset, used once. */
  put(offset: number, host: number): void {
    const at = offset - this.#start
    setU64be(this.#view, at, host)
    this.#view.setUint32(at, (this.#view.getUint32(at) | entry.copied) >>> 0)
  }

  putAllSubclusters(offset: number): void {
    this.#view.setUint32(offset - this.#start + 4, 0xffff_ffff)
  }

  /** Whether the part has not ended yet. */
  get left(): boolean {
    return this.#buffer.length > 0
  }

  /** The current chunk; what follows goes into the next. */
  take(): Uint8Array {
    const full = this.#buffer
    this.#start += full.length
    this.#buffer = new Uint8Array(Math.min(chunkBytes, this.#length - this.#start))
    this.#view = viewOf(this.#buffer)
    return full
  }
}
