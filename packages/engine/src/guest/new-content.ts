/** The content of files that go into a new file system. */
import { type ByteSource, MoraineError } from '../core/index.ts'
import { extentChunks } from '../format/raw/stream.ts'
import type { NewNode } from './new-tree.ts'

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

/** The bytes of a file, front to back. What its host knows for zeros is not read. */
export async function* contentChunks(node: NewNode, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  const source = await openContent(node)
  try {
    for await (const batch of source.extents(0, source.size, signal)) {
      for (const extent of batch) yield* extentChunks(source, extent, signal)
    }
  } finally {
    await source.close()
  }
}
