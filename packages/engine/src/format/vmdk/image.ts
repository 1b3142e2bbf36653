/** The shared state of one open VMDK: its files, its descriptor, the parts that the disk is put together from. */
import { type ByteSource, type ByteStore, type ErrorKind, type Limits, MoraineError } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import type { Access, Descriptor } from './descriptor.ts'
import type { SparseExtent } from './sparse-extent.ts'

/** A part of the disk: one extent. */
export interface Part {
  /** Guest byte offset. */
  readonly start: number
  /** Bytes. */
  readonly length: number
  readonly access: Access
  /** As the descriptor has it; empty when the extent is the image itself. */
  readonly type: string
  /** The file, when there is one and it was opened. */
  readonly file: ByteSource | undefined
  /** The name in the descriptor, for an extent that was not opened. */
  readonly name: string | undefined
  /** For flat extents: where the part begins in its file, in bytes. */
  readonly flat: number | undefined
  readonly sparse: SparseExtent | undefined
}

/** What reading and writing share. */
export interface VmdkImage {
  readonly file: ByteSource
  /** The same file, when it can be written. */
  readonly store: ByteStore | undefined
  readonly context: OpenContext
  readonly limits: Limits
  readonly descriptor: Descriptor
  /** Where the descriptor stands in the file, in bytes; `length` is the room it has there, undefined when it is the whole file. */
  readonly place: { offset: number; length: number | undefined }
  /** As QEMU names it: that of the descriptor, or what the extent itself is. */
  readonly createType: string
  /** In guest order, without gaps. */
  parts: readonly Part[]
  /** Virtual size in bytes. */
  size: number
}

/** An error about an image. */
export function fault(
  file: Pick<ByteSource, 'name'>,
  kind: ErrorKind,
  reason: string,
  field?: string,
  more: { offset?: number; value?: number | string; rule?: string; code?: string; hint?: string; cause?: unknown } = {},
): MoraineError {
  return new MoraineError(kind, reason, { path: file.name, format: 'vmdk', field, ...more })
}

/** The part that holds a guest offset, which lies within the disk. `hint` is where to look first. */
export function partAt(parts: readonly Part[], offset: number, hint = 0): number {
  const guess = parts[hint]
  if (guess !== undefined && offset >= guess.start && offset < guess.start + guess.length) return hint
  let low = 0
  let high = parts.length - 1
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if ((parts[middle] as Part).start <= offset) low = middle
    else high = middle - 1
  }
  return low
}

/** Every file of the image but the first, each once. */
export function furtherFiles(image: VmdkImage): ByteSource[] {
  const files = new Set<ByteSource>()
  for (const { file } of image.parts) if (file !== undefined && file !== image.file) files.add(file)
  return [...files]
}
