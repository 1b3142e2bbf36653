/** Bodies that imports read from. */
import { createHash } from 'node:crypto'
import type { ByteSource } from '@moraine/engine'
import { DownloadError } from '../web/download.ts'

const pieceBytes = 1024 * 1024

/** All of a source, front to back. A piece is overwritten when the next one is asked for. */
export async function* bytesOf(source: ByteSource, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(pieceBytes, source.size))
  for (let at = 0; at < source.size; at += buffer.length) {
    signal.throwIfAborted()
    const piece = buffer.subarray(0, Math.min(buffer.length, source.size - at))
    await source.read(at, piece, signal)
    yield piece
  }
}

/** Digests that a request may ask to be checked. */
export const checkable = ['md5', 'sha1', 'sha256', 'sha384', 'sha512'] as const

/** The same bytes; fails at their end when they are not those that were expected. @throws DownloadError */
export async function* checked(
  body: AsyncIterable<Uint8Array>,
  algorithm: string,
  expected: string,
): AsyncGenerator<Uint8Array> {
  const hash = createHash(algorithm)
  for await (const piece of body) {
    hash.update(piece)
    yield piece
  }
  const digest = hash.digest('hex')
  if (digest === expected.toLowerCase()) return
  throw new DownloadError(`its ${algorithm} digest is ${digest}, and ${expected.toLowerCase()} was expected`)
}

/** The same bytes, until the signal is aborted. */
export async function* until(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    signal.throwIfAborted()
    yield piece
  }
}
