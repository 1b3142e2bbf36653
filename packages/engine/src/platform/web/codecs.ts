/** Codecs and workers of a browser. */
import { portableCodecs } from '../../codec/portable.ts'
import type { Codecs } from '../../core/index.ts'
import type { WorkerPool } from '../worker-pool.ts'

/** What a browser unpacks with: the engine's own decoders (its `DecompressionStream` is asynchronous, refuses what follows a stream, and knows no zstd). */
export const defaultCodecs: Codecs = portableCodecs

/** No pool of workers in a browser: work runs where it is asked for. */
export function workers(): WorkerPool | undefined {
  return undefined
}
