/** A raw image written front to back: what the disk holds, with zeros made up for what reads as zeros. */
import { type ByteSource, type Disk, type Extent, readPadded, throwIfCancelled } from '../../core/index.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'

const chunkBytes = 1024 * 1024

/** Plans `disk` as raw bytes. Every chunk is a buffer of its own, save for zeros, which are all the same one. */
export async function streamRaw(disk: Disk, _options: OptionValues): Promise<StreamPlan> {
  return { length: disk.size, chunks: (signal) => rawChunks(disk, signal) }
}

async function* rawChunks(disk: Disk, signal?: AbortSignal): AsyncIterable<Uint8Array> {
  if (disk.size === 0) return
  for await (const batch of disk.extents(0, disk.size, signal)) {
    for (const extent of batch) yield* extentChunks(disk, extent, signal)
  }
}

/** The content of one extent of a disk or another source in chunks of up to 1 MiB. The next chunk is read while the last one is taken. */
export async function* extentChunks(disk: ByteSource, extent: Extent, signal?: AbortSignal): AsyncIterable<Uint8Array> {
  const end = extent.offset + extent.length
  if (extent.zero) {
    const zeros = new Uint8Array(Math.min(chunkBytes, extent.length))
    for (let at = extent.offset; at < end; at += chunkBytes) {
      throwIfCancelled(signal, disk.name)
      yield end - at < zeros.length ? zeros.subarray(0, end - at) : zeros
    }
    return
  }
  let next: Promise<Uint8Array> | undefined = readChunk(disk, extent, extent.offset, end, signal)
  try {
    for (let at = extent.offset; next !== undefined; at += chunkBytes) {
      const chunk: Uint8Array = await next
      throwIfCancelled(signal, disk.name)
      next = at + chunkBytes < end ? readChunk(disk, extent, at + chunkBytes, end, signal) : undefined
      next?.catch(() => {}) // Looked at in its turn.
      yield chunk
    }
  } finally {
    await next?.catch(() => {}) // No read outlives the stream: the disk may be closed next.
  }
}

async function readChunk(
  disk: ByteSource,
  extent: Extent,
  at: number,
  end: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  throwIfCancelled(signal, disk.name)
  const chunk = new Uint8Array(Math.min(chunkBytes, end - at))
  const { host } = extent
  if (host === undefined || extent.encoded !== undefined) await disk.read(at, chunk, signal)
  else {
    host.source.debugEvent?.('read_aio')
    await readPadded(host.source, host.offset + at - extent.offset, chunk, signal)
  }
  return chunk
}
