/** Copying into packed units: whole units are packed side by side and stored in guest order. */
import { defaultCodecs } from '#platform'
import { isZero } from '../bytes/zero.ts'
import {
  MoraineError,
  type Pack,
  type PackedCodec,
  type RunOptions,
  throwIfCancelled,
  type WritableDisk,
} from '../core/index.ts'
import { BufferPool } from './buffers.ts'
import type { CopyJob, Counter } from './copy-job.ts'
import { Pipeline } from './pipeline.ts'
import { readSegment, salvageSegment } from './read-segment.ts'
import { cutSegments, type Segment } from './segments.ts'

/** Copies a job whose target stores packed units. */
export async function copyPacked(job: CopyJob, counter: Counter, run: RunOptions): Promise<void> {
  const { unit = 0 } = job.cut
  const pipeline = new Pipeline(job.requests, run.signal)
  const buffers = new BufferPool(job.requests, unit)
  const pack = packer(job.target)
  const copy = async (segment: Segment, turn: () => Promise<void>, pass: () => void): Promise<void> => {
    const buffer = await buffers.take()
    try {
      const bytes = buffer.subarray(0, segment.length)
      await read(job, segment, bytes, pipeline.signal)
      // The last unit may be cut by the disk's end: what is packed is a whole one.
      buffer.fill(0, segment.length)
      const zero = job.sparse > 0 && isZero(bytes)
      const packed = zero ? undefined : pack(buffer, unit)
      await turn()
      let written: Promise<void> | undefined
      if (!zero) {
        written =
          packed === undefined
            ? job.target.write(segment.offset, bytes, pipeline.signal)
            : job.target.writePacked?.(segment.offset, packed)
      } else if (!job.isZero) written = job.target.zero(segment.offset, segment.length, 'unmap', pipeline.signal)
      pass()
      await written
    } finally {
      buffers.give(buffer)
    }
    counter.add(segment)
  }
  try {
    for await (const batch of cutSegments(job.extents(pipeline.signal), job.cut)) {
      throwIfCancelled(run.signal, job.source.name)
      for (const segment of batch) {
        if (segment.kind === 'backing' || (segment.kind === 'zero' && job.sparse > 0 && job.isZero)) continue
        await pipeline.start((turn, pass) => copy(segment, turn, pass))
      }
    }
  } finally {
    await pipeline.finish()
  }
}

async function read(job: CopyJob, segment: Segment, into: Uint8Array, signal: AbortSignal): Promise<void> {
  if (job.salvage !== undefined) return salvageSegment(job.source, segment, into, job.salvage, signal)
  return readSegment(job.source, segment, into, signal)
}

/** How units of this image are packed: qcow2 says `zlib` and means raw deflate. */
export function packedCodecOf(target: WritableDisk): PackedCodec {
  return target.info().details?.data['compression-type'] === 'zstd' ? 'zstd' : 'deflate'
}

function packer(target: WritableDisk): Pack {
  const codec = packedCodecOf(target)
  const pack = defaultCodecs[codec]?.pack
  if (pack !== undefined) return pack
  throw new MoraineError('unsupported', `nothing at hand packs with ${codec}`, {
    path: target.name,
    format: target.format,
    field: 'compression type',
  })
}
