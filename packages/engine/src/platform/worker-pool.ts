/** The pool of workers as the rest of the engine sees it: a platform has one, or has none. Tasks are plain data, descriptors of this process, and
 *  buffers that change hands. */
import type { PackedCodec } from '../core/index.ts'

/** How many numbers each unit has in `UnpackInput.units`. */
export const unpackNumbers = 5

/** Decodes packed units of one file. */
export interface UnpackInput {
  codec: PackedCodec
  /** Descriptor of the file that holds the packed bytes. What lies past its end reads as zeros. */
  source: number
  /** For error messages. */
  sourceName?: string | undefined
  /** Five numbers for each unit: byte offset of the packed bytes in `source`, bytes reserved for them, where the decoded bytes go in `to`, bytes of the
   *  decoded unit to skip, bytes to take. Units side by side in `source` and in `to` are read and written together. */
  units: Float64Array
  /** Bytes that a unit decodes to. */
  unitBytes: number
  to: UnpackFile | UnpackBuffer
}

/** Decoded bytes go to a file. */
export interface UnpackFile {
  descriptor: number
  name?: string | undefined
  /** Blocks of so many bytes, counted from the file's start, are not written where they are all zero; 0 writes everything. */
  sparseBytes: number
}

/** Decoded bytes go to a buffer, which is handed over (put it on the transfer list) and comes back. */
export interface UnpackBuffer {
  buffer: ArrayBuffer
}

/** What became of the units. */
export interface UnpackOutput {
  /** The buffer that was given. */
  buffer?: ArrayBuffer | undefined
  /** Ranges of the file that were written: byte offset and length, in turn. */
  written: Float64Array
  /** Ranges that are zeros and were left out: byte offset and length, in turn. */
  zeros: Float64Array
}

/** Packs consecutive units. */
export interface PackInput {
  codec: PackedCodec
  /** Bytes of a unit. */
  unitBytes: number
  /** Holds whole units, at least one, and is handed over (put it on the transfer list). */
  buffer: ArrayBuffer
  /** Units in `buffer`. */
  units: number
  /** Where the content comes from; without it, it is in `buffer`. */
  source?: PackSource | undefined
  /** Packs units of zeros like any other. */
  keepZeros?: boolean | undefined
}

/** Content read from a file. */
export interface PackSource {
  descriptor: number
  /** For error messages. */
  name?: string | undefined
  /** Byte offset in the file (−1: zeros) and length, in turn, for the content from its start on; the rest is zeros, as is what lies past the file's end. */
  segments: Float64Array
}

/** Packed units. */
export interface PackOutput {
  /** The buffer that was given: units back to back, packed or, where packing did not make them smaller, as they are. */
  buffer: ArrayBuffer
  /** For each unit: bytes when packed, 0 for a unit of zeros (nothing in `buffer`), −1 for one that is stored as it is (`unitBytes` bytes). */
  lengths: Int32Array
}

/** Everything that workers do, by name. */
export interface Tasks {
  unpack: { input: UnpackInput; output: UnpackOutput }
  pack: { input: PackInput; output: PackOutput }
}

/** Runs tasks in workers. */
export interface WorkerPool {
  /** Most tasks that run at the same time. */
  readonly size: number
  /** Runs one task. A task that has begun goes on to its end when `signal` fires, and only then is the promise rejected: until it settles, its descriptors
   *  must stay open.
   *  @throws MoraineError what the task throws; `io` when its worker died; `cancelled` when the signal fired or the pool was closed. */
  run<Name extends keyof Tasks>(
    name: Name,
    input: Tasks[Name]['input'],
    transfer?: readonly ArrayBuffer[],
    signal?: AbortSignal,
  ): Promise<Tasks[Name]['output']>
  /** Ends the workers, once the tasks that have begun are done. Tasks that wait are cancelled. */
  close(): Promise<void>
}
