/** Copying into packed units: units are packed side by side, by workers where there are some, and stored in guest order. */
import { defaultCodecs, workers } from '#platform'
import { isZero } from '../bytes/zero.ts'
import { type Extent, MoraineError, type PackedCodec, type RunOptions, throwIfCancelled } from '../core/index.ts'
import type { PackOutput, PackSource, WorkerPool } from '../platform/worker-pool.ts'
import { BufferPool } from './buffers.ts'
import { type CopyJob, type Counter, workerTasks } from './copy-job.ts'
import { copyStep } from './copy-step.ts'
import { Pipeline } from './pipeline.ts'
import { readSegment, salvageSegment } from './read-segment.ts'
import { cutSegments, type Segment } from './segments.ts'
import { Throttle } from './throttle.ts'
import { unitReadings } from './unpacking.ts'

/** Content that one task packs: enough for the handing over to cost nothing beside it. */
const taskBytes = 1024 * 1024

/** Data below which no worker is worth starting. */
const inlineBytes = 2 * 1024 * 1024

/** Copies a job whose target stores packed units. */
export async function copyPacked(job: CopyJob, counter: Counter, run: RunOptions): Promise<void> {
  const pool: WorkerPool | undefined =
    job.dataBytes !== undefined && job.dataBytes < inlineBytes ? undefined : workers()
  const pipeline = new Pipeline(pool === undefined ? job.requests : workerTasks, run.signal)
  const packer = new Packer(job, pipeline, pool)
  const throttle = job.rate === undefined ? undefined : new Throttle(job.rate)
  try {
    let batch: Segment[] = []
    const hand = async (): Promise<void> => {
      const units = batch
      batch = []
      if (units.length === 0) return
      await throttle?.pass(units.length * packer.unit, pipeline.signal)
      await pipeline.start(async (turn, pass) => {
        const copied = counter.begin(units)
        await packer.copy(units, turn, pass)
        copied()
      })
    }
    for await (const segments of cutSegments(job.extents(pipeline.signal), job.cut)) {
      throwIfCancelled(run.signal, job.source.name)
      for (const segment of segments) {
        if (segment.kind === 'backing' || (segment.kind === 'zero' && job.sparse > 0 && job.isZero)) continue
        if (segment.kind === 'zero' && job.sparse > 0) {
          await hand()
          await pipeline.start((turn, pass) => packer.zero(segment, turn, pass))
          continue
        }
        for (const unit of singleUnits(segment, packer.unit)) {
          batch.push(unit)
          if (batch.length >= packer.unitsInTask) await hand()
        }
      }
    }
    await hand()
  } finally {
    await pipeline.finish()
  }
}

/** With -S 0, zeros are packed too. */
function* singleUnits(segment: Segment, unit: number): Iterable<Segment> {
  if (segment.kind !== 'zero') {
    yield segment
    return
  }
  const end = segment.offset + segment.length
  for (let offset = segment.offset; offset < end; offset += unit) {
    yield { ...segment, offset, length: Math.min(unit, end - offset) }
  }
}

/** Packs batches of units and stores them. */
class Packer {
  readonly unit: number
  readonly unitsInTask: number
  readonly #job: CopyJob
  readonly #signal: AbortSignal
  readonly #pool: WorkerPool | undefined
  readonly #codec: PackedCodec
  readonly #buffers: BufferPool

  constructor(job: CopyJob, pipeline: Pipeline, pool: WorkerPool | undefined) {
    this.#job = job
    this.#signal = pipeline.signal
    this.#pool = pool
    this.unit = job.cut.unit ?? 0
    this.unitsInTask = Math.max(1, Math.floor(taskBytes / this.unit))
    this.#codec = job.target.packedCodec ?? 'deflate'
    this.#buffers = new BufferPool(pipeline.limit, this.unitsInTask * this.unit)
    if (defaultCodecs[this.#codec]?.pack === undefined) {
      throw new MoraineError('unsupported', `nothing at hand packs with ${this.#codec}`, {
        path: job.target.name,
        format: job.target.format,
        field: 'compression type',
      })
    }
  }

  async zero(segment: Segment, turn: () => Promise<void>, pass: () => void): Promise<void> {
    await turn()
    const zeroed = this.#job.target.zero(segment.offset, segment.length, 'unmap', this.#signal)
    pass()
    await copyStep('writing', segment.offset, zeroed)
  }

  async copy(units: Segment[], turn: () => Promise<void>, pass: () => void): Promise<void> {
    let buffer = await this.#buffers.take()
    try {
      const { buffer: bytes, lengths } = await this.#pack(units, buffer)
      buffer = new Uint8Array(bytes)
      await turn()
      const writes = this.#store(units, buffer, lengths)
      pass()
      for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
    } finally {
      this.#buffers.give(buffer)
    }
  }

  #store(units: Segment[], bytes: Uint8Array, lengths: Int32Array): Promise<void>[] {
    const { target, isZero: targetIsZero } = this.#job
    const writes: Promise<void>[] = []
    const told = (offset: number, write: Promise<void>) => copyStep('writing', offset, write)
    let at = 0
    units.forEach(({ offset, length }, index) => {
      const packed = lengths[index] ?? 0
      if (packed === 0) {
        if (!targetIsZero) writes.push(told(offset, target.zero(offset, length, 'unmap', this.#signal)))
      } else if (packed < 0) {
        writes.push(told(offset, target.write(offset, bytes.subarray(at, at + length), this.#signal)))
        at += this.unit
      } else {
        const written = target.writePacked?.(offset, bytes.subarray(at, at + packed))
        if (written !== undefined) writes.push(told(offset, written))
        at += packed
      }
    })
    return writes
  }

  async #pack(units: Segment[], into: Uint8Array): Promise<PackOutput> {
    const keepZeros = this.#job.sparse === 0
    const pool = this.#pool
    if (pool === undefined) {
      await this.#read(units, into)
      return packHere(this.#codec, into, units.length, this.unit, keepZeros)
    }
    const source = this.#job.salvage === undefined ? plainSource(units, this.unit) : undefined
    const bytes = source === undefined ? await this.#read(units, into) : into
    const buffer = bytes.buffer as ArrayBuffer
    const task = { codec: this.#codec, unitBytes: this.unit, units: units.length, buffer, source, keepZeros }
    return pool.run('pack', task, [buffer], this.#signal)
  }

  /** Reads the units' content on this side; what is packed itself, by workers. Returns the buffer, which may be another one. */
  async #read(units: Segment[], into: Uint8Array): Promise<Uint8Array> {
    const { source, salvage } = this.#job
    const readings =
      salvage === undefined && this.#pool !== undefined
        ? unitReadings(units, (_, index) => index * this.unit)
        : undefined
    if (readings !== undefined && this.#pool !== undefined) {
      into.fill(0, (units.length - 1) * this.unit)
      const buffer = into.buffer as ArrayBuffer
      const done = await this.#pool.run('unpack', { ...readings, to: { buffer } }, [buffer], this.#signal)
      return new Uint8Array(done.buffer ?? buffer)
    }
    const reads = units.map((segment, index) => {
      const bytes = into.subarray(index * this.unit, index * this.unit + segment.length)
      into.fill(0, index * this.unit + segment.length, (index + 1) * this.unit)
      if (salvage !== undefined) return salvageSegment(source, segment, bytes, salvage, this.#signal)
      return copyStep('reading', segment.offset, readSegment(source, segment, bytes, this.#signal))
    })
    for (const result of await Promise.allSettled(reads)) if (result.status === 'rejected') throw result.reason
    return into
  }
}

/** Where the units' content lies plain, when all of it lies in one open file. */
function plainSource(units: Segment[], unit: number): PackSource | undefined {
  const segments: number[] = []
  let descriptor: number | undefined
  let name: string | undefined
  for (const segment of units) {
    // Only the last unit of a disk is cut short, and it is the last of its batch.
    if (segment.length < unit && segment !== units[units.length - 1]) return undefined
    let covered = 0
    for (const part of segment.parts ?? [segment.extent]) {
      const [offset, length] = within(part, segment)
      covered += length
      if (part.zero) {
        segments.push(-1, length)
        continue
      }
      const source = part.encoded === undefined ? part.host?.source : undefined
      if (source?.descriptor === undefined || part.host === undefined) return undefined
      if (descriptor !== undefined && descriptor !== source.descriptor) return undefined
      descriptor = source.descriptor
      name = source.name
      segments.push(part.host.offset + offset - part.offset, length)
    }
    // A file may end within its last sector: the disk knows what follows.
    if (covered < segment.length) return undefined
  }
  return descriptor === undefined ? undefined : { descriptor, name, segments: Float64Array.from(segments) }
}

/** The part of an extent that lies in a segment: offset and length. */
function within(extent: Extent, segment: Segment): [offset: number, length: number] {
  const start = Math.max(extent.offset, segment.offset)
  return [start, Math.min(extent.offset + extent.length, segment.offset + segment.length) - start]
}

/** What the task `pack` does, without workers. */
function packHere(codec: PackedCodec, bytes: Uint8Array, units: number, unit: number, keepZeros: boolean): PackOutput {
  const pack = defaultCodecs[codec]?.pack
  const lengths = new Int32Array(units)
  let at = 0
  for (let index = 0; index < units; index++) {
    const content = bytes.subarray(index * unit, (index + 1) * unit)
    if (!keepZeros && isZero(content)) continue
    const packed = pack?.(content, unit)
    if (packed === undefined) bytes.copyWithin(at, index * unit, (index + 1) * unit)
    else bytes.set(packed, at)
    lengths[index] = packed?.length ?? -1
    at += packed?.length ?? unit
  }
  return { buffer: bytes.buffer as ArrayBuffer, lengths }
}
