/** Moving a disk's content into an empty one: reads run ahead, writes are issued in guest order so that the target allocates in that order, and
 *  nothing is in flight when it ends. */
import { type RunOptions, throwIfCancelled } from '../core/index.ts'
import { BufferPool } from './buffers.ts'
import { type CopyJob, Counter } from './copy-job.ts'
import { copyPacked } from './copy-packed.ts'
import { Pipeline } from './pipeline.ts'
import { readSegment, salvageSegment } from './read-segment.ts'
import { chunkBytes, cutSegments, type Segment } from './segments.ts'
import { Throttle } from './throttle.ts'
import { zeroRuns } from './zero-runs.ts'

/** Copies all segments of a job. */
export async function copyDisk(job: CopyJob, run: RunOptions): Promise<void> {
  const counter = await Counter.of(job, run)
  await (job.cut.unit === undefined ? copyPlain(job, counter, run) : copyPacked(job, counter, run))
  counter.end()
}

async function copyPlain(job: CopyJob, counter: Counter, run: RunOptions): Promise<void> {
  const pipeline = new Pipeline(job.requests, run.signal)
  const copier = new Copier(job, pipeline.signal)
  const throttle = job.rate === undefined ? undefined : new Throttle(job.rate)
  try {
    for await (const batch of cutSegments(job.extents(pipeline.signal), job.cut)) {
      throwIfCancelled(run.signal, job.source.name)
      for (const segment of batch) {
        for (const piece of job.sparse === 0 ? writtenZeros(segment) : [segment]) {
          if (piece.kind === 'backing' || (piece.kind === 'zero' && job.sparse > 0 && job.isZero)) continue
          if (throttle !== undefined) await throttle.pass(piece.length, pipeline.signal)
          await pipeline.start(async (turn, pass) => {
            await copier.copy(piece, job.ordered ? turn : noTurn, pass)
            counter.add(piece)
          })
        }
      }
    }
  } finally {
    await pipeline.finish()
  }
}

const noTurn = (): Promise<void> => Promise.resolve()

/** With -S 0 zeros are written like data, a chunk at a time. */
function writtenZeros(segment: Segment): Segment[] {
  if (segment.kind !== 'zero') return [segment]
  const pieces: Segment[] = []
  const end = segment.offset + segment.length
  for (let offset = segment.offset; offset < end; offset += chunkBytes) {
    pieces.push({ ...segment, offset, length: Math.min(chunkBytes, end - offset) })
  }
  return pieces
}

/** Copies single pieces. */
class Copier {
  readonly #job: CopyJob
  readonly #signal: AbortSignal
  readonly #buffers: BufferPool
  #offload: boolean

  constructor(job: CopyJob, signal: AbortSignal) {
    this.#job = job
    this.#signal = signal
    this.#buffers = new BufferPool(job.requests, chunkBytes)
    this.#offload = job.offload && job.target.copyFrom !== undefined
  }

  async copy(segment: Segment, turn: () => Promise<void>, pass: () => void): Promise<void> {
    if (segment.kind === 'zero' && this.#job.sparse > 0) {
      await turn()
      const zeroed = this.#job.target.zero(segment.offset, segment.length, 'unmap', this.#signal)
      pass()
      return zeroed
    }
    if (this.#offload && segment.kind === 'data' && (await this.#copyInKernel(segment, turn))) return
    const buffer = await this.#buffers.take()
    try {
      const bytes = buffer.subarray(0, segment.length)
      await this.#read(segment, bytes)
      await turn()
      const writes = this.#write(segment.offset, bytes)
      pass()
      await allDone(writes)
    } finally {
      this.#buffers.give(buffer)
    }
  }

  #read(segment: Segment, into: Uint8Array): Promise<void> | undefined {
    const { source, salvage } = this.#job
    if (segment.kind === 'zero') {
      into.fill(0)
      return undefined
    }
    if (salvage !== undefined) return salvageSegment(source, segment, into, salvage, this.#signal)
    return readSegment(source, segment, into, this.#signal)
  }

  /** Issues the writes of one piece, in order; they end in any order. */
  #write(offset: number, bytes: Uint8Array): Promise<void>[] {
    const { target, sparse, isZero } = this.#job
    if (sparse === 0) return [target.write(offset, bytes, this.#signal)]
    const writes: Promise<void>[] = []
    for (const { data, start, length } of zeroRuns(bytes, offset, sparse)) {
      if (data) writes.push(target.write(offset + start, bytes.subarray(start, start + length), this.#signal))
      else if (!isZero) writes.push(target.zero(offset + start, length, 'unmap', this.#signal))
    }
    return writes
  }

  /** Returns false, for this and all later pieces, once the kernel cannot. */
  async #copyInKernel(segment: Segment, turn: () => Promise<void>): Promise<boolean> {
    const { host } = segment.extent
    const { target } = this.#job
    const end = segment.offset + segment.length
    if (host === undefined || segment.extent.encoded !== undefined) return false
    if (end > segment.extent.offset + segment.extent.length) return false
    await turn()
    for (let at = segment.offset; at < end; ) {
      const from = host.offset + at - segment.extent.offset
      const copied = (await target.copyFrom?.(host.source, from, at, end - at)) ?? 0
      if (copied === 0) {
        this.#offload = false
        return false
      }
      at += copied
    }
    return true
  }
}

/** Waits for all, then throws the first failure: no write may outlive its buffer. */
async function allDone(writes: Promise<void>[]): Promise<void> {
  if (writes.length === 1) return writes[0]
  for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
}
