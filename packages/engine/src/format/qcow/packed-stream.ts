/** A compressed qcow image written front to back, for pipes and sockets: clusters in guest order, each L2 table behind its clusters, the L1 table at the end. The
 *  header comes first and names the end, so the clusters are packed twice: once to find out how long everything is, once to be written. */
import type { ChunkQueue } from '../../bytes/chunk-queue.ts'
import { setU64be, viewOf } from '../../bytes/integers.ts'
import type { PackedStream } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { PackedTarget, packedStream } from '../packed-target.ts'
import { planHeader } from './create.ts'
import { encodeHeader, geometryOf, packedEntry, type QcowGeometry, type QcowHeader } from './layout.ts'
import { checkSize, refuseEncryption } from './options.ts'

const sector = 512
const pieceBytes = 1024 * 1024

/** Plans a stream of a disk of `size` bytes; undefined where nothing shall be compressed.
 *  @throws MoraineError as `streamQcow`. */
export function streamPackedQcow(
  size: number,
  options: OptionValues,
  compress: boolean,
): ((copy: (target: PackedTarget) => Promise<void>) => Promise<PackedStream>) | undefined {
  if (!compress) return undefined
  refuseEncryption(options)
  checkSize(size, 'stream')
  const header = planHeader(size, 0, 'stream')
  return async (copy) => {
    const measured = new StreamTarget(header, undefined)
    await copy(measured)
    await measured.close()
    return packedStream((queue) => new StreamTarget({ ...header, l1Offset: measured.l1Offset }, queue))
  }
}

class StreamTarget extends PackedTarget {
  readonly #header: QcowHeader
  readonly #geometry: QcowGeometry
  readonly #promised: number | undefined
  readonly #l1: Float64Array
  readonly #table: Uint8Array
  #tableIndex = -1
  /** Byte offset of the L1 table, once all is written. */
  l1Offset = 0

  constructor(header: QcowHeader, queue: ChunkQueue | undefined) {
    const geometry = geometryOf(header)
    super({ format: 'qcow', size: geometry.virtualSize, unit: geometry.clusterSize, codec: 'deflate' }, queue)
    this.#header = header
    this.#geometry = geometry
    this.#promised = queue === undefined ? undefined : header.l1Offset
    this.#l1 = new Float64Array(geometry.l1Entries)
    this.#table = new Uint8Array(geometry.l2Bytes)
  }

  protected async begin(): Promise<void> {
    await this.append(encodeHeader(this.#header))
    await this.pad(this.#geometry.clusterSize)
  }

  protected async place(offset: number, bytes: Uint8Array, packed: boolean): Promise<void> {
    const { clusterSize, l2Entries } = this.#geometry
    const cluster = offset / clusterSize
    const range = Math.floor(cluster / l2Entries)
    if (range !== this.#tableIndex) await this.#endTable(range)
    if (!packed) await this.pad(clusterSize)
    const view = viewOf(this.#table)
    const at = (cluster % l2Entries) * 8
    if (packed) {
      const [upper, lower] = packedEntry(this.length, bytes.length, this.#header.clusterBits)
      view.setUint32(at, upper)
      view.setUint32(at + 4, lower)
    } else {
      setU64be(view, at, this.length)
    }
    await this.append(bytes)
  }

  protected async end(): Promise<void> {
    await this.#endTable(-1)
    await this.pad(sector)
    this.l1Offset = this.length
    if (this.#promised !== undefined && this.#promised !== this.length) {
      throw this.fault('io', 'the source was changed while it was streamed', this.length)
    }
    for (let start = 0; start < this.#l1.length * 8; start += pieceBytes) {
      const piece = new Uint8Array(Math.min(pieceBytes, this.#l1.length * 8 - start))
      const view = viewOf(piece)
      for (let at = 0; at < piece.length; at += 8) setU64be(view, at, this.#l1[(start + at) / 8] as number)
      await this.append(piece)
    }
    await this.pad(sector)
  }

  /** Writes the table of the clusters so far, and begins another. */
  async #endTable(next: number): Promise<void> {
    const index = this.#tableIndex
    this.#tableIndex = next
    if (index < 0) return
    await this.pad(this.#geometry.clusterSize)
    this.#l1[index] = this.length
    await this.append(this.#table)
    this.#table.fill(0)
  }
}
