/** Reading and writing raw images, or a window of one. */
import { roundUp } from '../../bytes/integers.ts'

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

/** Opens `source` as a raw disk. A length that is no multiple of 512 is rounded up, the rest reads as zeros.
 *  @throws MoraineError `invalid` for a window that is none (words of QEMU), `denied` when the source cannot be written and shall be. */
export async function openRaw(source: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const offset = context.window?.offset ?? 0
  const size = context.window?.size
  const whole = roundUp(source.size, sector)
  const fail = (field: string, value: number, reason: string): never => {
    throw new MoraineError('invalid', reason, { path: source.name, format: 'raw', field, value })
  }
  if (offset > whole) {
    fail('offset', offset, `Offset (${BigInt(offset)}) cannot be greater than size of the containing file (${whole})`)
  }
  if (size !== undefined && offset + size > whole) {
    // QEMU writes two blanks before `actual`.
    const rule = `has to be smaller or equal to the  actual size of the containing file (${whole})`
    fail('size', size, `The sum of offset (${BigInt(offset)}) and size (${BigInt(size)}) ${rule}`)
  }
  if (size !== undefined && size % sector !== 0) fail('size', size, 'Specified size is not multiple of 512')
  if (context.mode === 'read') return new RawDisk(source, offset, size)
  if (!isStore(source)) {
    throw new MoraineError('denied', 'the source cannot be written', { path: source.name, format: 'raw' })
  }
  return new WritableRawDisk(source, offset, size)
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
    return this.window ?? roundUp(roundUp(this.file.size, sector) - this.start, sector)
  }

  /** The file's own descriptor, as long as disk and file offsets are the same. */
  get descriptor(): number | undefined {
    return this.start === 0 ? this.file.descriptor : undefined
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const refusal = this.outside(offset, into.length)
    if (refusal !== undefined) return Promise.reject(refusal)
    this.file.debugEvent?.('read_aio')
    return readPadded(this.file, this.start + offset, into, signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) throw refusal
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

  /** The error for a range that leaves the disk: what lies there may be another's, or nobody's yet. */
  protected outside(offset: number, length: number): MoraineError | undefined {
    if (offset >= 0 && offset + length <= this.size) return undefined
    return new MoraineError('io', 'the range passes the end of the disk', {
      path: this.name,
      format: 'raw',
      field: 'offset',
      value: offset,
      rule: `offset + ${length} at most ${this.size}`,
      code: 'EIO',
    })
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
    const refusal = this.outside(offset, from.length)
    if (refusal !== undefined) return Promise.reject(refusal)
    this.store.debugEvent?.('write_aio')
    return this.store.write(this.start + offset, from, signal)
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) return Promise.reject(refusal)
    return this.store.zero(this.start + offset, length, mode, signal)
  }

  discard(offset: number, length: number): Promise<void> {
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) return Promise.reject(refusal)
    return this.store.discard(this.start + offset, length)
  }

  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    if (this.window !== undefined) {
      throw new MoraineError('unsupported', 'Cannot resize fixed-size raw disks', {
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
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) throw refusal
    return (await this.store.copyFrom?.(source, sourceOffset, this.start + offset, length)) ?? 0
  }
}
