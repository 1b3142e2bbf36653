/** Which clusters are counted exactly once, a bit for each: all that a check of COPIED flags asks of most entries. To look every count up in
 *  pages would take a cache of them, and their turnover far more memory. */
import { viewOf } from '../../bytes/integers.ts'
import type { StoredTable } from './check-stored.ts'
import { readTables, tablePlan } from './check-tables.ts'
import type { Qcow2Image } from './image.ts'
import { countAt } from './refcount-reader.ts'

/** The clusters of one file that are counted once. */
export class CountedOnce {
  readonly #bits: Uint8Array

  private constructor(bits: Uint8Array) {
    this.#bits = bits
  }

  /** Reads all counts; undefined when the bits would take more than `mostBytes`, or where a block cannot be read. */
  static async read(
    image: Qcow2Image,
    stored: StoredTable,
    mostBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<CountedOnce | undefined> {
    const { file, geometry } = image
    const { clusterSize, refcountsPerBlock } = geometry
    const clusters = Math.ceil(file.size / clusterSize)
    if (clusters / 8 > mostBytes) return undefined
    const once = new CountedOnce(new Uint8Array(Math.ceil(clusters / 8)))
    const blocks = Math.ceil(clusters / refcountsPerBlock)
    for (let block = 0; block < Math.min(blocks, stored.size); block++) if (!stored.isReadable(block)) return undefined
    await readTables(
      file,
      clusterSize,
      blocks,
      (block) => {
        const offset = stored.blockOffset(block)
        return offset === 0 || offset >= file.size ? tablePlan.pass : offset
      },
      (block, bytes) => {
        if (bytes === undefined) return
        const first = block * refcountsPerBlock
        once.#take(image, bytes, first, Math.min(refcountsPerBlock, clusters - first))
      },
      signal,
    )
    return once
  }

  #take(image: Qcow2Image, bytes: Uint8Array, first: number, count: number): void {
    const { refcountOrder } = image.header
    const view = viewOf(bytes)
    for (let at = 0; at < count; at++) {
      if (countAt(bytes, view, refcountOrder, at) !== 1) continue
      const cluster = first + at
      this.#bits[cluster >>> 3] = (this.#bits[cluster >>> 3] as number) | (1 << (cluster & 7))
    }
  }

  /** Whether a cluster is counted once; undefined past the end of the file. */
  has(cluster: number): boolean | undefined {
    const bits = this.#bits[Math.floor(cluster / 8)]
    return bits === undefined ? undefined : ((bits >>> (cluster % 8)) & 1) === 1
  }
}
