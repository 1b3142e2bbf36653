/** Which clusters of a source hold data: what tables and data of a streamed image are made from. */
import type { Disk } from '../../core/index.ts'

/** `count` clusters from `first` on hold data; the clusters before and after them do not. */
export interface ClusterRun {
  first: number
  count: number
}

/** Runs that are remembered; with more, the source is asked again on each walk. */
const remembered = 65_536

/** The runs of one source, which must not change meanwhile. */
export class ClusterRuns {
  readonly #disk: Disk
  readonly #clusterSize: number
  #known: ClusterRun[] | undefined

  constructor(disk: Disk, clusterSize: number) {
    this.#disk = disk
    this.#clusterSize = clusterSize
  }

  /** All runs in guest order, none touching the next. A cluster that holds data in part counts. */
  async *walk(signal?: AbortSignal): AsyncIterable<ClusterRun> {
    if (this.#known !== undefined) {
      yield* this.#known
      return
    }
    let seen: ClusterRun[] | undefined = []
    for await (const run of this.#find(signal)) {
      if (seen !== undefined && seen.push(run) > remembered) seen = undefined
      yield run
    }
    this.#known = seen
  }

  async *#find(signal?: AbortSignal): AsyncIterable<ClusterRun> {
    if (this.#disk.size === 0) return
    let run: ClusterRun | undefined
    for await (const batch of this.#disk.extents(0, this.#disk.size, signal)) {
      for (const { offset, length, zero } of batch) {
        if (zero) continue
        const first = Math.floor(offset / this.#clusterSize)
        const end = Math.ceil((offset + length) / this.#clusterSize)
        if (run !== undefined && first <= run.first + run.count) {
          run.count = Math.max(run.count, end - run.first)
          continue
        }
        if (run !== undefined) yield run
        run = { first, count: end - first }
      }
    }
    if (run !== undefined) yield run
  }
}
