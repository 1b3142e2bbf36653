/** What a copy needs to know, and the counting of its progress. */
import {
  type Disk,
  type Extent,
  type Progress,
  type RunOptions,
  throwIfCancelled,
  type WritableDisk,
} from '../core/index.ts'
import { InOrder } from './in-order.ts'
import { type Cut, cutSegments, type Segment } from './segments.ts'

/** Most tasks that a copy has workers do at once. It bounds the workers that start, each some 25 MiB, by what a process may take (192 MiB). */
export const workerTasks = 6

/** Everything that a copy needs to know. */
export interface CopyJob {
  source: Disk
  target: WritableDisk
  extents: (signal?: AbortSignal) => AsyncIterable<Extent[]>
  cut: Cut
  /** Bytes of data in the source, where that is known at no cost. */
  dataBytes: number | undefined
  /** Least bytes of zeros left out of a write; 0 writes all. */
  sparse: number
  /** The target reads as zeros where nothing is written. */
  isZero: boolean
  /** Most requests in flight. */
  requests: number
  ordered: boolean
  /** Copy inside the kernel where possible. */
  offload: boolean
  /** Where warnings of unreadable sectors go; undefined when such a sector ends the copy. */
  salvage: ((message: string) => void) | undefined
  /** Bytes per second. */
  rate: number | undefined
}

/** Counts guest bytes that are worked on, as `qemu-img convert -p` does: data, and with -S 0 zeros too, in guest order. */
export class Counter {
  readonly #report: ((progress: Progress) => void) | undefined
  readonly #total: number
  readonly #zeros: boolean
  readonly #order = new InOrder()
  #done = 0

  static async of(job: CopyJob, run: RunOptions): Promise<Counter> {
    let total = 0
    if (run.onProgress !== undefined) {
      for await (const batch of cutSegments(job.extents(run.signal), job.cut)) {
        throwIfCancelled(run.signal, job.source.name)
        for (const segment of batch) if (isWork(segment, job.sparse === 0)) total += segment.length
      }
    }
    return new Counter(run.onProgress, total, job.sparse === 0)
  }

  private constructor(report: ((progress: Progress) => void) | undefined, total: number, zeros: boolean) {
    this.#report = report
    this.#total = total
    this.#zeros = zeros
    report?.({ done: 0, total })
  }

  /** Work on the next segments begins. The returned function counts them, when those before them are counted. */
  begin(segments: readonly Segment[]): () => void {
    if (this.#report === undefined) return () => {}
    return this.#order.begin(() => {
      for (const segment of segments) this.#add(segment)
    })
  }

  #add(segment: Segment): void {
    if (!isWork(segment, this.#zeros)) return
    this.#done = Math.min(this.#done + segment.length, this.#total)
    this.#report?.({ done: this.#done, total: this.#total })
  }

  end(): void {
    if (this.#done < this.#total) this.#report?.({ done: this.#total, total: this.#total })
  }
}

function isWork(segment: Segment, zeros: boolean): boolean {
  return segment.kind === 'data' || (zeros && segment.kind === 'zero')
}
