/** A target that takes packed units, read as the stream that it writes: the copy runs ahead of the reader as far as the target lets it. */
import { MoraineError, type RunOptions, type WritableDisk } from '../core/index.ts'
import type { PackedStream } from '../format/format.ts'

/** The chunks of the stream that `begin` gives, while `copy` fills its target. Whoever stops reading ends the copy; nothing is in flight when this ends. */
export async function* packedChunks(
  begin: (copy: (target: WritableDisk) => Promise<void>) => Promise<PackedStream>,
  copy: (target: WritableDisk, run: RunOptions) => Promise<void>,
  signal?: AbortSignal,
): AsyncIterable<Uint8Array> {
  const stream = await begin((target) => copy(target, { signal }))
  const stop = new AbortController()
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  const copying = copy(stream.target, { signal: either })
    .then(() => stream.target.close())
    .catch((error: unknown) => stream.fail(error))
  try {
    yield* stream.chunks
  } finally {
    stop.abort()
    stream.fail(new MoraineError('cancelled', 'the operation was cancelled'))
    await copying
  }
}
