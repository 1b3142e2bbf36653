/** A Blob or File of a browser (Node has them too) as a source. */
import { type ByteSource, type Extent, MoraineError } from '../core/index.ts'
import { allData, checkRange } from './range.ts'

/** The part of a Blob that is used. */
export interface BlobLike {
  /** Bytes. */
  readonly size: number
  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> }
}

let made = 0

/** Reads a Blob; each read loads its range only. `name`: default the name of a File, otherwise `blob`. */
export function blobSource(blob: BlobLike & { readonly name?: string }, name = blob.name ?? 'blob'): ByteSource {
  return new BlobSource(blob, name)
}

class BlobSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly identity = `blob:${made++}`
  readonly #blob: BlobLike

  constructor(blob: BlobLike, name: string) {
    this.name = name
    this.size = blob.size
    this.#blob = blob
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    let bytes: Uint8Array
    try {
      bytes = new Uint8Array(await this.#blob.slice(offset, offset + into.length).arrayBuffer())
    } catch (cause) {
      // A browser says NotReadableError when the file behind a File was changed or removed.
      throw new MoraineError('io', 'Input/output error', {
        path: this.name,
        offset,
        code: 'EIO',
        hint: 'The file may have been changed since it was chosen.',
        cause,
      })
    }
    if (bytes.length !== into.length) {
      throw new MoraineError('io', 'Input/output error', {
        path: this.name,
        offset: offset + bytes.length,
        code: 'EIO',
      })
    }
    into.set(bytes)
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return allData(this, offset, length, signal)
  }

  async close(): Promise<void> {}
}
