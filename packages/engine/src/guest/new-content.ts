/** The content of files that go into a new file system. */
import { roundUp } from '../bytes/integers.ts'
import { type ByteSource, MoraineError, throwIfCancelled } from '../core/index.ts'
import { extentChunks } from '../format/raw/stream.ts'
import type { NewNode } from './new-tree.ts'

const chunkBytes = 1024 * 1024
/** Pieces from here on are passed on by `gathered` as they are: copying them would cost more than it saves. All shorter ones are copied before the next is asked for, so that whoever makes them
 *  may make one after the other in one room. */
export const passedOnBytes = 256 * 1024
/** A file that is not worth asking where its holes are. With zeros up to the end of its last unit, of at most as many bytes again, it is shorter than what is passed on: those who write small
 *  files read them all into one room. */
export const smallBytes = passedOnBytes / 4

/** Opens the content of a file, which is the caller's to close.
 *  @throws MoraineError `io` where it has another size than it had. */
export async function openContent({ entry: { open, size }, path }: NewNode): Promise<ByteSource> {
  const source = await open?.()
  if (source === undefined) {
    throw new MoraineError('invalid', `'${path}' has no content`, { field: 'path', value: path })
  }
  if (source.size === size) return source
  await source.close()
  throw new MoraineError('io', `the file for '${path}' has changed since it was looked at`, {
    path: source.name,
    field: 'size',
    value: source.size,
    rule: `${size}, as then`,
  })
}

/** Whether a file is read at once. */
export function isSmall({ entry: { size = 0 } }: NewNode): boolean {
  return size <= smallBytes
}

/** The bytes of a small file, with zeros up to a multiple of `unit` (at most `smallBytes`), in a room for them, where they stand until the next ones: to be copied, as `gathered` does.
 *  @throws MoraineError as `openContent`, and what reading throws. */
export async function smallContent(
  node: NewNode,
  room: { bytes: Uint8Array; unit: number },
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const source = await openContent(node)
  try {
    const bytes = room.bytes.subarray(0, roundUp(source.size, room.unit))
    await source.read(0, bytes.subarray(0, source.size), signal)
    return bytes.fill(0, source.size)
  } finally {
    await source.close()
  }
}

/** The bytes of a file, front to back. What its host knows for zeros is not read. */
export async function* contentChunks(node: NewNode, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  if (isSmall(node)) {
    yield await smallContent(node, { bytes: new Uint8Array(node.entry.size ?? 0), unit: 1 }, signal)
    return
  }
  const source = await openContent(node)
  try {
    for await (const batch of source.extents(0, source.size, signal)) {
      for (const extent of batch) yield* extentChunks(source, extent, signal)
    }
  } finally {
    await source.close()
  }
}

/** Small pieces gathered into chunks of up to 1 MiB; those are copied, large ones are passed on (`passedOnBytes`). */
export async function* gathered(
  pieces: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let chunk = new Uint8Array(chunkBytes)
  let filled = 0
  for await (const piece of pieces) {
    throwIfCancelled(signal)
    const isLarge = piece.length >= passedOnBytes
    if (filled > 0 && (isLarge || filled + piece.length > chunk.length)) {
      yield chunk.subarray(0, filled)
      chunk = new Uint8Array(chunkBytes)
      filled = 0
    }
    if (isLarge) yield piece
    else {
      chunk.set(piece, filled)
      filled += piece.length
    }
  }
  if (filled > 0) yield chunk.subarray(0, filled)
}
