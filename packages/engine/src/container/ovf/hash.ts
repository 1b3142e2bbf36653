/** Digests of a source, several in one reading. */
import { type ByteSource, type DigestName, type Signing, throwIfCancelled } from '../../core/index.ts'

const pieceBytes = 1024 * 1024

/** Reads a source once, front to back.
 *  @returns the digests in lower case */
export async function hashSource(
  source: ByteSource,
  signing: Signing,
  names: readonly DigestName[],
  { signal, onBytes }: { signal?: AbortSignal | undefined; onBytes?: ((bytes: number) => void) | undefined } = {},
): Promise<Map<DigestName, string>> {
  const digests = names.map((name) => [name, signing.digest(name)] as const)
  const buffer = new Uint8Array(Math.min(pieceBytes, Math.max(1, source.size)))
  for (let at = 0; at < source.size; ) {
    throwIfCancelled(signal, source.name)
    const piece = buffer.subarray(0, Math.min(buffer.length, source.size - at))
    await source.read(at, piece, signal)
    for (const [, digest] of digests) digest.update(piece)
    at += piece.length
    onBytes?.(piece.length)
  }
  return new Map(digests.map(([name, digest]) => [name, digest.hex()]))
}
