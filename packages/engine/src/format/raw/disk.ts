/** Reading and writing raw images, or a window of one. */

import type { Disk } from '../../core/index.ts'
import {
  type ByteSource,
  type ByteStore,
  type DiskInfo,
  type Extent,
  isStore,
  MoraineError,
  type Preallocation,
  readPadded,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import type { OpenContext } from '../format.ts'

const sector = 512

/** Opens `source` as a raw disk. A length that is no multiple of 512 is rounded up, the rest reads as zeros. */
export async function openRaw(source: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const offset = context.window?.offset ?? 0
  const asked = context.window?.size
  if (offset > source.size || (asked !== undefined && offset + asked > source.size)) {
    throw new MoraineError('invalid', 'the window passes the end of the file', {
      path: source.name,
      format: 'raw',
      field: offset > source.size ? 'offset' : 'size',
      value: offset > source.size ? offset : asked,
      rule: `offset + size at most ${source.size}`,
    })
  }
  if (context.mode === 'read') return new RawDisk(source, offset, asked)
  if (!isStore(source)) {
    throw new MoraineError('denied', 'the source cannot be written', { path: source.name, format: 'raw' })
  }
  return new WritableRawDisk(source, offset, asked)
}

class RawDisk implements Disk {
  readonly format = 'raw'
  readonly file: ByteSource
  readonly start: number
  protected readonly window: number | undefined

  constructor(file: ByteSource, start: number, window: number | undefined) {
    this.file = file
    this.start = start
    this.window = window
  }

  get name(): string {
    return this.file.name
  }

  get size(): number {
    return Math.ceil((this.window ?? this.file.size - this.start) / sector) * sector
  }

  /** The file's own descriptor, as long as disk and file offsets are the same. */
  get descriptor(): number | undefined {
    return this.start === 0 ? this.file.descriptor : undefined
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    return readPadded(this.file, this.start + offset, into, signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    const end = offset + length
    const inFile = Math.max(0, Math.min(end, this.file.size - this.start) - offset)
    if (inFile > 0) {
      for await (const batch of this.file.extents(this.start + offset, inFile, signal)) {
        for (const extent of batch) {
          extent.host = { source: this.file, offset: extent.offset }
          extent.offset -= this.start
          extent.allocated = true
        }
        yield batch
      }
    }
    if (inFile < length) {
      const at = offset + inFile
      const host = { source: this.file, offset: this.start + at }
      yield [{ offset: at, length: length - inFile, allocated: true, data: false, zero: true, depth: 0, host }]
    }
  }

  allocatedSize(): Promise<number> {
    return this.file.allocatedSize?.() ?? Promise.resolve(this.file.size)
  }

  info(): DiskInfo {
    return { format: 'raw', virtualSize: this.size, snapshots: [] }
  }

  close(): Promise<void> {
    return this.file.close()
  }
}

class WritableRawDisk extends RawDisk implements WritableDisk {
  readonly store: ByteStore

  constructor(store: ByteStore, start: number, window: number | undefined) {
    super(store, start, window)
    this.store = store
  }

  get kind(): ByteStore['kind'] {
    return this.store.kind
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.store.write(this.start + offset, from, signal)
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    return this.store.zero(this.start + offset, length, mode, signal)
  }

  discard(offset: number, length: number): Promise<void> {
    return this.store.discard(this.start + offset, length)
  }

  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    if (this.window !== undefined) {
      throw new MoraineError('unsupported', 'a window of a raw image cannot be resized', {
        path: this.name,
        format: 'raw',
        field: 'size',
      })
    }
    if (size < this.size && !shrink) {
      throw new MoraineError('denied', 'Use the --shrink option to perform a shrink operation.', {
        path: this.name,
        format: 'raw',
        field: 'size',
        value: size,
      })
    }
    if (preallocation === 'metadata') {
      throw new MoraineError('unsupported', 'Unsupported preallocation mode: metadata', {
        path: this.name,
        format: 'raw',
        field: 'preallocation',
      })
    }
    await this.store.resize(this.start + size, preallocation)
  }

  flush(): Promise<void> {
    return this.store.flush()
  }

  async copyFrom(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number> {
    return (await this.store.copyFrom?.(source, sourceOffset, this.start + offset, length)) ?? 0
  }
}
