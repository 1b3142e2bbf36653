/** The guest's view of an image whose blocks lie in one file, plain or packed, or nowhere: what VDI, VHD and the old formats share. A format says what lies at a
 *  range; reading, extents and the disk below follow from that. */
import {
  appendExtent,
  type ByteSource,
  type Codecs,
  type Disk,
  type DiskInfo,
  type ErrorKind,
  type ErrorPlace,
  type Extent,
  MoraineError,
  type PackedCodec,
  type RareCodec,
  readPadded,
  throwIfCancelled,
} from '../core/index.ts'

/** What lies at a range of guest bytes. */
export interface MappedRun {
  /** `unallocated` reads from the disk below, or as zeros where there is none. */
  kind: 'data' | 'zero' | 'unallocated' | 'packed'
  /** Guest bytes from the offset that was asked, more than 0; of `packed` never past its unit. */
  length: number
  /** Byte offset in the file of the first guest byte of `data`, of the packed bytes of `packed`. What lies past the file's end reads as zeros. */
  host: number
  /** The unit of a `packed` run. */
  unit?: MappedUnit
}

/** One packed unit of an image. */
export interface MappedUnit {
  codec: PackedCodec | RareCodec
  /** Bytes that it takes in the file. */
  packedLength: number
  /** Bytes that it decodes to. */
  size: number
  /** Bytes of the decoded unit before the guest byte that was asked for. */
  skip: number
}

/** Extents in one batch. */
const batchSize = 1024

/** Bytes beyond twice its size that a packed unit may take: no codec makes more of what does not shrink. */
const leastPacked = 64 * 1024

/** Reads that are in flight at most for one request. */
const mostReads = 64

/** A disk that answers from its map. */
export abstract class MappedDisk implements Disk {
  abstract readonly format: string
  readonly file: ByteSource
  readonly parent: Disk | undefined
  /** The unit that was decoded last, or is being decoded. */
  #unpacked: { host: number; bytes: Promise<Uint8Array> } | undefined

  constructor(file: ByteSource, parent: Disk | undefined) {
    this.file = file
    this.parent = parent
  }

  get name(): string {
    return this.file.name
  }

  /** Bytes. */
  abstract get size(): number
  abstract info(): DiskInfo

  /** The run at `offset`, at most `length` bytes; at once where the tables are in memory. */
  protected abstract resolve(offset: number, length: number): MappedRun | Promise<MappedRun>

  /** The image has a parent, and it was not opened: what it decides cannot be read. */
  protected get lacksParent(): boolean {
    return false
  }

  /** Blocks were laid out in advance, so that the file's own holes tell what was never written. */
  protected get asksFile(): boolean {
    return false
  }

  /** Whether the image itself decides what has no place, for want of a disk below. QEMU sees it so for formats that can have none. */
  protected get decidesUnallocated(): boolean {
    return true
  }

  /** What decodes packed units. */
  protected get codecs(): Codecs {
    return {}
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + into.length > this.size) return Promise.reject(this.outside(offset, into.length))
    if (into.length === 0) return Promise.resolve()
    try {
      const run = this.resolve(offset, into.length)
      if (!(run instanceof Promise) && run.length === into.length) return this.#readRun(run, offset, into, signal)
      return this.#readRuns(run, offset, into, signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async #readRuns(
    first: MappedRun | Promise<MappedRun>,
    offset: number,
    into: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    let run = first instanceof Promise ? await first : first
    const reads: Promise<void>[] = []
    for (let done = 0; ; ) {
      const part = into.subarray(done, done + run.length)
      const read = this.#readRun(run, offset + done, part, signal)
      // It is waited for below; until then a failure of it is nobody's.
      read.catch(() => {})
      reads.push(read)
      done += run.length
      if (done >= into.length) break
      if (reads.length >= mostReads) await settled(reads)
      try {
        const next = this.resolve(offset + done, into.length - done)
        run = next instanceof Promise ? await next : next
      } catch (error) {
        await Promise.allSettled(reads)
        throw error
      }
    }
    await settled(reads)
  }

  #readRun(run: MappedRun, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    switch (run.kind) {
      case 'data':
        return this.readData(run.host, offset, into, signal)
      case 'zero':
        into.fill(0)
        return Promise.resolve()
      case 'unallocated':
        return this.readParent(offset, into, signal)
      case 'packed':
        return this.#readPacked(run, into, signal)
    }
  }

  /** The bytes of the file at `host`, which the guest sees at `offset`. */
  protected readData(host: number, _offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    return readPadded(this.file, host, into, signal)
  }

  /** Data lies encrypted in the file. */
  protected get encrypted(): boolean {
    return false
  }

  async #readPacked({ host, unit }: MappedRun, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (unit === undefined) throw this.fault('corrupt', 'a packed run without a unit', { offset: host })
    let known = this.#unpacked
    if (known?.host !== host) {
      known = { host, bytes: this.unpack(host, unit, signal) }
      this.#unpacked = known
    }
    try {
      const bytes = await known.bytes
      into.set(bytes.subarray(unit.skip, unit.skip + into.length))
    } catch (error) {
      if (this.#unpacked === known) this.#unpacked = undefined
      throw error
    }
  }

  /** The decoded bytes of the unit that is packed at `host`.
   *  @throws MoraineError `unsupported` when there is no codec, `corrupt` when the stream is damaged. */
  protected async unpack(host: number, unit: MappedUnit, signal?: AbortSignal): Promise<Uint8Array> {
    const codec = this.codecs[unit.codec]
    if (codec === undefined) {
      throw this.fault('unsupported', `no codec at hand for ${unit.codec}`, { field: 'codec', value: unit.codec })
    }
    // An image may say that 512 bytes take 128 MiB, and a read may want many units at once.
    const packed = new Uint8Array(Math.min(unit.packedLength, 2 * unit.size + leastPacked))
    await readPadded(this.file, host, packed, signal)
    const bytes = new Uint8Array(unit.size)
    try {
      codec.unpack(packed, bytes)
    } catch (error) {
      const rule = error instanceof Error ? error.message : 'a whole stream'
      throw this.fault('corrupt', 'a compressed unit cannot be decoded', {
        field: 'compressed data',
        offset: host,
        rule,
      })
    }
    return bytes
  }

  /** Forgets what was decoded; other bytes may come to lie there. */
  protected forgetUnpacked(): void {
    this.#unpacked = undefined
  }

  /** What the disk below shows at `offset`: zeros past its end, and where there is none.
   *  @throws MoraineError `denied` when the parent was not opened. */
  protected readParent(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.lacksParent) return Promise.reject(this.fault('denied', 'the parent was not opened', { field: 'parent' }))
    const there = this.parent === undefined ? 0 : Math.max(0, Math.min(into.length, this.parent.size - offset))
    if (there < into.length) into.fill(0, there)
    if (this.parent === undefined || there === 0) return Promise.resolve()
    return this.parent.read(offset, there === into.length ? into : into.subarray(0, there), signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    const batch: Extent[] = []
    const end = offset + length
    for (let at = offset; at < end; ) {
      const found = this.resolve(at, end - at)
      const run = found instanceof Promise ? await found : found
      const plain = this.#plainExtent(run, at)
      if (plain !== undefined) appendExtent(batch, plain)
      else {
        for await (const extents of this.#mixedExtents(run, at, signal)) {
          for (const extent of extents) appendExtent(batch, extent)
          if (batch.length > batchSize) yield takeAllButLast(batch)
        }
      }
      if (batch.length > batchSize) {
        throwIfCancelled(signal, this.name)
        yield takeAllButLast(batch)
      }
      at += run.length
    }
    if (batch.length > 0) yield batch
  }

  /** The one extent of a run, where neither the file nor another disk has to be asked. */
  #plainExtent({ kind, host, length, unit }: MappedRun, offset: number): Extent | undefined {
    if (kind === 'packed' && unit !== undefined) {
      const { codec, packedLength, size, skip } = unit
      const extent: Extent = {
        offset,
        length,
        allocated: true,
        data: true,
        zero: false,
        depth: 0,
        encoded: 'compressed',
      }
      if (isPackedCodec(codec)) {
        extent.packed = { source: this.file, offset: host, length: packedLength, codec, skip, size }
      }
      return extent
    }
    if (kind === 'data') {
      if (this.encrypted) {
        return { offset, length, allocated: true, data: true, zero: false, depth: 0, encoded: 'encrypted' }
      }
      if (this.asksFile) return undefined
      const place = { source: this.file, offset: host }
      return { offset, length, allocated: true, data: true, zero: false, depth: 0, host: place }
    }
    if (kind === 'unallocated' && (this.parent !== undefined || this.lacksParent)) return undefined
    const allocated = kind === 'zero' || this.decidesUnallocated
    return { offset, length, allocated, data: false, zero: true, depth: 0 }
  }

  async *#mixedExtents(run: MappedRun, offset: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    if (run.kind === 'data') yield* this.#fileExtents(run, offset, signal)
    else yield* this.#parentExtents(run, offset, signal)
  }

  /** A run of data, split where the file itself has holes. */
  async *#fileExtents({ host, length }: MappedRun, offset: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    const source = this.file
    const extent = (at: number, bytes: number, zero: boolean): Extent => ({
      offset: offset + at - host,
      length: bytes,
      allocated: true,
      data: true,
      zero,
      depth: 0,
      host: { source, offset: at },
    })
    const there = Math.max(0, Math.min(length, source.size - host))
    if (there > 0) {
      for await (const batch of source.extents(host, there, signal)) {
        yield batch.map((below) => extent(below.offset, below.length, below.zero))
      }
    }
    if (there < length) yield [extent(host + there, length - there, true)]
  }

  async *#parentExtents({ length }: MappedRun, offset: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    const { parent } = this
    if (this.lacksParent || parent === undefined) {
      throw this.fault('denied', 'the parent was not opened', { field: 'parent' })
    }
    const there = Math.max(0, Math.min(length, parent.size - offset))
    if (there > 0) {
      for await (const batch of parent.extents(offset, there, signal)) {
        yield batch.map((extent) => ({ ...extent, depth: extent.depth + 1 }))
      }
    }
    if (there < length) {
      yield [{ offset: offset + there, length: length - there, allocated: false, data: false, zero: true, depth: 0 }]
    }
  }

  allocatedSize(): Promise<number> {
    return this.file.allocatedSize?.() ?? Promise.resolve(this.file.size)
  }

  async close(): Promise<void> {
    await Promise.all([this.file.close(), this.parent?.close()])
  }

  /** An error of this image. */
  protected fault(kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
    return new MoraineError(kind, reason, { path: this.name, format: this.format, ...place })
  }

  /** The error for a range that leaves the disk. */
  protected outside(offset: number, length: number): MoraineError {
    return this.fault('io', 'the range passes the end of the disk', {
      field: 'offset',
      value: offset,
      rule: `offset + ${length} at most ${this.size}`,
      code: 'EIO',
    })
  }
}

/** Whether workers know the codec too: then an extent may tell where the packed bytes lie. */
function isPackedCodec(codec: PackedCodec | RareCodec): codec is PackedCodec {
  return codec === 'deflate' || codec === 'zlib' || codec === 'zstd'
}

/** Waits for all, empties the list, then throws the first failure: nothing may write into a buffer that the caller has back. */
export async function settled(work: Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work.splice(0))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** The last extent may still grow. */
function takeAllButLast(batch: Extent[]): Extent[] {
  return batch.splice(0, batch.length - 1)
}
