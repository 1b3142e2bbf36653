/** A compressed qcow2 image written front to back, for pipes and sockets: clusters in guest order, each L2 table behind its clusters, each refcount block behind the
 *  clusters that it counts, the L1 table and the refcount table at the end. The header comes first and names the end, so the clusters are packed twice: once to
 *  find out how long everything is, once to be written. Packing gives the same bytes each time; nothing is kept between but two offsets.
 *  Layout rules: QEMU's docs/interop/qcow2.txt. */
import type { ChunkQueue } from '../../bytes/chunk-queue.ts'
import { divideUp, setU64be, viewOf } from '../../bytes/integers.ts'
import type { PackedStream } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { PackedTarget, packedStream } from '../packed-target.ts'
import { entry, packedEntry } from './layout.ts'
import type { Qcow2Plan } from './options.ts'
import { countAt, setCountAt } from './refcount-reader.ts'
import { checkRefcountTable, l1EntriesOf, streamHeader, streamOptions } from './stream.ts'

/** Tables are handed on in pieces of this size. */
const pieceBytes = 1024 * 1024

/** Plans a stream of a disk of `size` bytes; undefined where nothing shall be compressed.
 *  @throws MoraineError as `streamOptions`. */
export function streamPackedQcow2(size: number, options: OptionValues, compress: boolean): Begin | undefined {
  if (!compress) return undefined
  const plan = streamOptions(options)
  l1EntriesOf(plan, size)
  return async (copy) => {
    const measured = new StreamTarget(size, plan, undefined)
    await copy(measured)
    await measured.close()
    return packedStream((queue) => new StreamTarget(size, plan, queue, measured.places))
  }
}

type Begin = (copy: (target: PackedTarget) => Promise<void>) => Promise<PackedStream>

/** Byte offsets of what stands at the end. */
interface Places {
  l1: number
  refcountTable: number
  refcountTableClusters: number
}

class StreamTarget extends PackedTarget {
  readonly #plan: Qcow2Plan
  readonly #promised: Places | undefined
  readonly #clusterSize: number
  readonly #l2Entries: number
  readonly #perBlock: number
  /** Largest count of one cluster. */
  readonly #most: number
  /** Host offsets of L2 tables; 0 where there is none. */
  readonly #l1: Float64Array
  readonly #table: Uint8Array
  #tableIndex = -1
  /** Host clusters of the refcount blocks that are written. */
  readonly #blocks: number[] = []
  /** Those that are not, by number. */
  readonly #counts = new Map<number, Uint8Array>()
  places: Places = { l1: 0, refcountTable: 0, refcountTableClusters: 0 }

  constructor(size: number, plan: Qcow2Plan, queue: ChunkQueue | undefined, promised?: Places) {
    const clusterSize = 2 ** plan.clusterBits
    super({ format: 'qcow2', size, unit: clusterSize, codec: plan.compression === 'zstd' ? 'zstd' : 'deflate' }, queue)
    this.#plan = plan
    this.#promised = promised
    this.#clusterSize = clusterSize
    this.#l2Entries = clusterSize / (plan.extendedL2 ? 16 : 8)
    this.#perBlock = (clusterSize * 8) / 2 ** plan.refcountOrder
    this.#most = Math.min(2 ** (2 ** plan.refcountOrder) - 1, Number.MAX_SAFE_INTEGER)
    this.#l1 = new Float64Array(l1EntriesOf(plan, size))
    this.#table = new Uint8Array(clusterSize)
  }

  protected async begin(): Promise<void> {
    const places = { ...(this.#promised ?? this.places), l1Entries: this.#l1.length }
    await this.#store(streamHeader(this.#plan, this.size, places, this.name))
  }

  protected async place(offset: number, bytes: Uint8Array, packed: boolean): Promise<void> {
    const cluster = offset / this.#clusterSize
    const range = Math.floor(cluster / this.#l2Entries)
    if (range !== this.#tableIndex) await this.#endTable(range)
    await this.#endBlocks()
    if (!packed || this.#countOf(Math.floor(this.length / this.#clusterSize)) >= this.#most) {
      await this.pad(this.#clusterSize)
    }
    const host = this.length
    const at = (cluster % this.#l2Entries) * (this.#plan.extendedL2 ? 16 : 8)
    const view = viewOf(this.#table)
    if (packed) {
      const [upper, lower] = packedEntry({ offset: host, length: bytes.length }, this.#plan.clusterBits)
      view.setUint32(at, upper)
      view.setUint32(at + 4, lower)
    } else {
      setCopied(view, at, host)
      if (this.#plan.extendedL2) view.setUint32(at + 12, 0xffff_ffff)
    }
    await this.#store(bytes)
  }

  protected async end(): Promise<void> {
    await this.#endTable(-1)
    await this.#endBlocks()
    await this.pad(this.#clusterSize)
    const l1 = this.length
    this.#count(l1, this.#l1.length * 8)
    await this.#appendTable(this.#l1.length * 8, (view, at) => {
      const host = this.#l1[at / 8] as number
      if (host > 0) setCopied(view, at % pieceBytes, host)
    })
    await this.pad(this.#clusterSize)
    const refcountTable = this.length
    const refcountTableClusters = await this.#endCounts()
    this.places = { l1, refcountTable, refcountTableClusters }
    const promised = this.#promised
    if (promised !== undefined && (promised.l1 !== l1 || promised.refcountTable !== refcountTable)) {
      throw this.fault('io', 'the source was changed while it was streamed', l1)
    }
  }

  /** Writes the refcount table and the blocks that are left; all of these are counted too. Returns the clusters of the table. */
  async #endCounts(): Promise<number> {
    const first = this.length / this.#clusterSize
    const before = this.#blocks.length
    let tableClusters = 1
    let blocks = before
    for (;;) {
      const clusters = first + tableClusters + blocks - before
      const needed = Math.max(before, divideUp(clusters, this.#perBlock))
      const forTable = Math.max(1, divideUp(needed * 8, this.#clusterSize))
      if (needed === blocks && forTable === tableClusters) break
      blocks = needed
      tableClusters = forTable
    }
    checkRefcountTable(tableClusters, this.#clusterSize)
    const left = blocks - before
    this.#count(first * this.#clusterSize, (tableClusters + left) * this.#clusterSize)
    for (let i = 0; i < left; i++) this.#blocks.push(first + tableClusters + i)
    await this.#appendTable(blocks * 8, (view, at) =>
      setU64be(view, at % pieceBytes, (this.#blocks[at / 8] as number) * this.#clusterSize),
    )
    await this.pad(this.#clusterSize)
    for (let block = before; block < blocks; block++) await this.append(this.#countsOf(block))
    return tableClusters
  }

  /** Appends bytes and counts the clusters that they touch. */
  async #store(bytes: Uint8Array): Promise<void> {
    this.#count(this.length, bytes.length)
    await this.append(bytes)
  }

  /** Appends a table of `length` bytes, in pieces; `fill` puts one entry in. Its clusters are counted by the caller. */
  async #appendTable(length: number, fill: (view: DataView, at: number) => void): Promise<void> {
    for (let start = 0; start < length; start += pieceBytes) {
      const piece = new Uint8Array(Math.min(pieceBytes, length - start))
      const view = viewOf(piece)
      for (let at = start; at < start + piece.length; at += 8) fill(view, at)
      await this.append(piece)
    }
  }

  /** Writes the table of the clusters so far, and begins another. */
  async #endTable(next: number): Promise<void> {
    const index = this.#tableIndex
    this.#tableIndex = next
    if (index < 0) return
    await this.#endBlocks()
    await this.pad(this.#clusterSize)
    this.#l1[index] = this.length
    await this.#store(this.#table)
    this.#table.fill(0)
  }

  /** Writes the refcount blocks of clusters that are all behind. */
  async #endBlocks(): Promise<void> {
    while (this.length >= (this.#blocks.length + 1) * this.#perBlock * this.#clusterSize) {
      await this.pad(this.#clusterSize)
      const block = this.#blocks.length
      this.#blocks.push(this.length / this.#clusterSize)
      const counts = this.#countsOf(block)
      this.#counts.delete(block)
      await this.#store(counts)
    }
  }

  #countsOf(block: number): Uint8Array {
    let counts = this.#counts.get(block)
    if (counts === undefined) {
      counts = new Uint8Array(this.#clusterSize)
      this.#counts.set(block, counts)
    }
    return counts
  }

  #countOf(cluster: number): number {
    const counts = this.#countsOf(Math.floor(cluster / this.#perBlock))
    return countAt(counts, viewOf(counts), this.#plan.refcountOrder, cluster % this.#perBlock)
  }

  #count(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / this.#clusterSize)
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster <= last; cluster++) {
      const counts = this.#countsOf(Math.floor(cluster / this.#perBlock))
      const count = this.#countOf(cluster) + 1
      setCountAt(counts, viewOf(counts), this.#plan.refcountOrder, cluster % this.#perBlock, count)
    }
  }
}

/** The offset of what is used once. */
function setCopied(view: DataView, at: number, host: number): void {
  setU64be(view, at, host)
  view.setUint32(at, (view.getUint32(at) | entry.copied) >>> 0)
}
