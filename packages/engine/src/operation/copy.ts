/** Moving a disk's content into an empty one: reads run ahead, writes are issued in guest order so that the target allocates in that order, and
 *  nothing is in flight when it ends. */
import { workers } from '#platform'
import { MoraineError, type RunOptions, throwIfCancelled } from '../core/index.ts'
import type { WorkerPool } from '../platform/worker-pool.ts'
import { BufferPool } from './buffers.ts'
import { type CopyJob, Counter, workerTasks } from './copy-job.ts'
import { copyPacked } from './copy-packed.ts'
import { copyStep } from './copy-step.ts'
import { Pipeline } from './pipeline.ts'
import { readSegment, salvageSegment } from './read-segment.ts'
import { chunkBytes, cutSegments, type Segment } from './segments.ts'
import { Throttle } from './throttle.ts'
import { decodeTogether, packedUnitOf, unitReadings } from './unpacking.ts'
import { zeroRuns } from './zero-runs.ts'

/** Copies all segments of a job. */
export async function copyDisk(job: CopyJob, run: RunOptions): Promise<void> {
  const counter = await Counter.of(job, run)
  await (job.cut.unit === undefined ? copyPlain(job, counter, run) : copyPacked(job, counter, run))
  counter.end()
}

async function copyPlain(job: CopyJob, counter: Counter, run: RunOptions): Promise<void> {
  const pool = poolFor(job)
  const pipeline = new Pipeline(pool === undefined ? job.requests : Math.max(job.requests, workerTasks), run.signal)
  const copier = new Copier(job, pipeline, pool)
  const throttle = job.rate === undefined ? undefined : new Throttle(job.rate)
  try {
    for await (const group of groups(job, pool !== undefined, pipeline.signal)) {
      throwIfCancelled(run.signal, job.source.name)
      await throttle?.pass(bytesOf(group), pipeline.signal)
      await pipeline.start(async (turn, pass) => {
        const copied = counter.begin(group)
        await copier.copy(group, job.ordered ? turn : noTurn, pass)
        copied()
      })
    }
  } finally {
    await pipeline.finish()
  }
}

/** Workers are worth it for packed units only, and not for a few. */
function poolFor(job: CopyJob): WorkerPool | undefined {
  if (job.salvage !== undefined || (job.dataBytes !== undefined && job.dataBytes < chunkBytes)) return undefined
  return workers()
}

/** What is copied in one step: a single piece, or up to 2 MiB of packed units that a worker decodes together. */
async function* groups(job: CopyJob, decode: boolean, signal: AbortSignal): AsyncIterable<Segment[]> {
  let group: Segment[] = []
  let bytes = 0
  for await (const batch of cutSegments(job.extents(signal), job.cut)) {
    for (const segment of batch) {
      const [first] = group
      const packed = decode && packedUnitOf(segment) !== undefined
      const joins = packed && first !== undefined && decodeTogether(first, segment)
      if (group.length > 0 && (!joins || bytes + segment.length > chunkBytes)) {
        yield group
        group = []
        bytes = 0
      }
      if (packed) {
        group.push(segment)
        bytes += segment.length
        continue
      }
      for (const piece of job.sparse === 0 ? writtenZeros(segment) : [segment]) {
        if (isCopied(job, piece)) yield [piece]
      }
    }
  }
  if (group.length > 0) yield group
}

function isCopied(job: CopyJob, { kind }: Segment): boolean {
  return kind === 'data' || (kind === 'zero' && !(job.sparse > 0 && job.isZero))
}

function bytesOf(group: readonly Segment[]): number {
  let bytes = 0
  for (const { length } of group) bytes += length
  return bytes
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

/** Copies pieces. */
class Copier {
  readonly #job: CopyJob
  readonly #signal: AbortSignal
  readonly #buffers: BufferPool
  readonly #pool: WorkerPool | undefined
  #offload: boolean

  constructor(job: CopyJob, pipeline: Pipeline, pool: WorkerPool | undefined) {
    this.#job = job
    this.#signal = pipeline.signal
    this.#buffers = new BufferPool(pipeline.limit, chunkBytes)
    this.#pool = pool
    this.#offload = job.offload && job.target.copyFrom !== undefined
  }

  async copy(group: Segment[], turn: () => Promise<void>, pass: () => void): Promise<void> {
    const [segment] = group
    if (segment === undefined) return
    if (this.#pool !== undefined && packedUnitOf(segment) !== undefined) {
      return this.#decode(this.#pool, group, turn, pass)
    }
    if (segment.kind === 'zero' && this.#job.sparse > 0) {
      await turn()
      const zeroed = this.#job.target.zero(segment.offset, segment.length, 'unmap', this.#signal)
      pass()
      return copyStep('writing', segment.offset, zeroed)
    }
    if (this.#offload && segment.kind === 'data' && (await this.#copyInKernel(segment, turn))) return
    const buffer = await this.#buffers.take()
    try {
      const bytes = buffer.subarray(0, segment.length)
      await copyStep('reading', segment.offset, this.#read(segment, bytes))
      await turn()
      const written = this.#write(segment.offset, bytes)
      pass()
      await written
    } finally {
      this.#buffers.give(buffer)
    }
  }

  async #decode(pool: WorkerPool, group: Segment[], turn: () => Promise<void>, pass: () => void): Promise<void> {
    const { target, sparse, isZero } = this.#job
    const { descriptor } = target
    if (target.format === 'raw' && descriptor !== undefined) {
      const readings = unitReadings(group, ({ offset }) => offset)
      if (readings !== undefined) {
        pass()
        const to = { descriptor, name: target.name, sparseBytes: sparse }
        const { zeros } = await pool.run('unpack', { ...readings, to }, [], this.#signal)
        if (isZero) return
        for (let i = 0; i < zeros.length; i += 2) {
          await target.zero(zeros[i] as number, zeros[i + 1] as number, 'unmap', this.#signal)
        }
        return
      }
    }
    let filled = 0
    const places = group.map(({ length }) => {
      filled += length
      return filled - length
    })
    const readings = unitReadings(group, (_, index) => places[index] as number)
    if (readings === undefined) throw new MoraineError('invalid', 'units that do not go together')
    let bytes = await this.#buffers.take()
    try {
      const buffer = bytes.buffer as ArrayBuffer
      const done = await pool.run('unpack', { ...readings, to: { buffer } }, [buffer], this.#signal)
      bytes = new Uint8Array(done.buffer ?? buffer)
      await turn()
      const writes: Promise<void>[] = []
      group.forEach(({ offset, length }, index) => {
        const at = places[index] as number
        writes.push(this.#write(offset, bytes.subarray(at, at + length)))
      })
      pass()
      await allDone(writes)
    } finally {
      this.#buffers.give(bytes)
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
  #write(offset: number, bytes: Uint8Array): Promise<void> {
    const { target, sparse, isZero } = this.#job
    if (sparse === 0) return copyStep('writing', offset, target.write(offset, bytes, this.#signal))
    const writes: Promise<void>[] = []
    for (const { data, start, length } of zeroRuns(bytes, offset, sparse)) {
      if (data) writes.push(target.write(offset + start, bytes.subarray(start, start + length), this.#signal))
      else if (!isZero) writes.push(target.zero(offset + start, length, 'unmap', this.#signal))
    }
    return copyStep('writing', offset, allDone(writes))
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
