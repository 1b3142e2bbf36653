/** Reading a VMDK: guest bytes, extents, facts. */
import { viewOf } from '../../bytes/integers.ts'
import {
  appendExtent,
  type ByteSource,
  type Disk,
  type DiskInfo,
  type Extent,
  readPadded,
  throwIfCancelled,
} from '../../core/index.ts'
import { fault, furtherFiles, type Part, partAt, type VmdkImage } from './image.ts'
import { vmdkInfo } from './info.ts'
import { grainMarkerBytes } from './layout.ts'
import type { Run } from './sparse-extent.ts'

/** Extents in one batch. */
const batchSize = 1024

/** The guest's view of a VMDK. */
export class VmdkDisk implements Disk {
  readonly format = 'vmdk'
  readonly image: VmdkImage
  readonly parent: Disk | undefined
  #hint = 0
  #unpacked: { file: ByteSource | undefined; host: number; bytes: Uint8Array } | undefined

  constructor(image: VmdkImage, parent: Disk | undefined) {
    this.image = image
    this.parent = parent
  }

  get name(): string {
    return this.image.file.name
  }

  get file(): ByteSource {
    return this.image.file
  }

  get size(): number {
    return this.image.size
  }

  info(): DiskInfo {
    return vmdkInfo(this.image)
  }

  /** What lies at `offset`, for `length` bytes at most, within one part. */
  resolve(offset: number, length: number): Run | Promise<Run> {
    this.#hint = partAt(this.image.parts, offset, this.#hint)
    const part = this.image.parts[this.#hint] as Part
    const at = offset - part.start
    const most = Math.min(length, part.length - at)
    if (part.access !== 'NOACCESS' && part.sparse !== undefined) return part.sparse.resolve(at, most)
    const run: Run = { kind: 'denied', length: most, host: -1, file: undefined, packedLength: 0, skip: 0, grainSize: 0 }
    if (part.type === 'ZERO') run.kind = 'zero'
    else if (part.access !== 'NOACCESS' && part.flat !== undefined) {
      run.kind = 'data'
      run.host = part.flat + at
      run.file = part.file
    }
    return run
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + into.length > this.size) return Promise.reject(this.outside(offset, into.length))
    return this.readAt(offset, into, signal)
  }

  /** Reads what the tables show now. */
  protected readAt(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (into.length === 0) return Promise.resolve()
    try {
      const run = this.resolve(offset, into.length)
      if (!(run instanceof Promise) && run.length === into.length) return this.#readRun(run, offset, into, signal)
      return this.#readRuns(run, offset, into, signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async #readRuns(first: Run | Promise<Run>, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    let run = first instanceof Promise ? await first : first
    const reads: Promise<void>[] = []
    for (let done = 0; ; ) {
      const part = into.subarray(done, done + run.length)
      const read = this.#readRun(run, offset + done, part, signal)
      // It is waited for below; until then a failure of it is nobody's.
      read.catch(() => {})
      reads.push(read)
      done += part.length
      if (done >= into.length) break
      if (reads.length >= 64) await settle(reads)
      try {
        const next = this.resolve(offset + done, into.length - done)
        run = next instanceof Promise ? await next : next
      } catch (error) {
        await Promise.allSettled(reads)
        throw error
      }
    }
    await settle(reads)
  }

  #readRun(run: Run, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    switch (run.kind) {
      case 'data':
        return readPadded(run.file as ByteSource, run.host, into, signal)
      case 'zero':
        into.fill(0)
        return Promise.resolve()
      case 'packed':
        return this.#readPacked(run, into, signal)
      case 'unallocated':
        return this.#readParent(offset, into, signal)
      case 'denied':
        return Promise.reject(this.unreachable(offset))
    }
  }

  #readParent(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { parent, image } = this
    const there = parent === undefined ? 0 : Math.max(0, Math.min(into.length, parent.size - offset))
    if (there < into.length) into.fill(0, there)
    if (parent === undefined || there === 0) {
      if (parent === undefined && image.descriptor.parentName !== undefined && !image.context.parents) {
        return Promise.reject(fault(image.file, 'denied', 'the parent was not opened', 'parentFileNameHint'))
      }
      return Promise.resolve()
    }
    return parent.read(offset, there === into.length ? into : into.subarray(0, there), signal)
  }

  async #readPacked(run: Run, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const known = this.#unpacked
    let bytes = known?.host === run.host && known.file === run.file ? known.bytes : undefined
    if (bytes === undefined) {
      bytes = await this.#unpack(run, signal)
      this.#unpacked = { file: run.file, host: run.host, bytes }
    }
    into.set(bytes.subarray(run.skip, run.skip + into.length))
  }

  async #unpack(run: Run, signal?: AbortSignal): Promise<Uint8Array> {
    const file = run.file as ByteSource
    const codec = this.image.context.codecs.zlib
    if (codec === undefined) {
      throw fault(file, 'unsupported', 'no codec at hand for compressed grains (zlib)', 'compressAlgorithm')
    }
    await this.beforePacked()
    const packed = new Uint8Array(run.packedLength)
    await readPadded(file, run.host, packed, signal)
    const bytes = new Uint8Array(run.grainSize)
    try {
      codec.unpack(packed.subarray(streamStart(packed, this.#markersOf(file))), bytes)
    } catch (error) {
      throw fault(file, 'corrupt', 'a compressed grain cannot be decoded', 'compressed grain', {
        offset: run.host,
        rule: error instanceof Error ? error.message : 'a whole stream',
        code: 'EINVAL',
      })
    }
    return bytes
  }

  #markersOf(file: ByteSource): boolean {
    return this.image.parts.find((part) => part.file === file)?.sparse?.shape.markers === true
  }

  /** Called before packed bytes are read: a writer may still hold them back. */
  protected async beforePacked(): Promise<void> {}

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    let batch: Extent[] = []
    const end = offset + length
    for (let at = offset; at < end; ) {
      const found = this.resolve(at, end - at)
      const run = found instanceof Promise ? await found : found
      if (run.kind === 'unallocated' && this.parent !== undefined && at < this.parent.size) {
        run.length = Math.min(run.length, this.parent.size - at)
        for await (const below of this.parent.extents(at, run.length, signal)) {
          for (const extent of below) appendExtent(batch, { ...extent, depth: extent.depth + 1 })
          if (batch.length >= batchSize) {
            yield batch
            batch = []
          }
        }
      } else if (run.kind === 'data' && this.image.parts[this.#hint]?.flat !== undefined) {
        for await (const extent of flatExtents(run, at, signal)) {
          appendExtent(batch, extent)
          if (batch.length >= batchSize) {
            yield batch
            batch = []
          }
        }
      } else {
        appendExtent(batch, this.#extentOf(run, at))
      }
      at += run.length
      if (batch.length >= batchSize) {
        throwIfCancelled(signal, this.name)
        yield batch
        batch = []
      }
    }
    if (batch.length > 0) yield batch
  }

  #extentOf(run: Run, offset: number): Extent {
    const { kind, length, file } = run
    const extent: Extent = {
      offset,
      length,
      allocated: kind !== 'unallocated',
      data: kind === 'data' || kind === 'packed' || kind === 'denied',
      zero: kind === 'zero' || kind === 'unallocated',
      depth: 0,
    }
    if (kind === 'data' && file !== undefined) extent.host = { source: file, offset: run.host }
    if (kind !== 'packed' || file === undefined) return extent
    extent.encoded = 'compressed'
    // Without markers it takes a look at the bytes to know where the stream begins.
    if (!this.#markersOf(file)) return extent
    extent.packed = {
      source: file,
      offset: run.host + grainMarkerBytes,
      length: Math.max(0, run.packedLength - grainMarkerBytes),
      codec: 'zlib',
      skip: run.skip,
      size: run.grainSize,
    }
    return extent
  }

  async allocatedSize(): Promise<number> {
    let bytes = 0
    for (const file of [this.file, ...furtherFiles(this.image)]) bytes += (await file.allocatedSize?.()) ?? file.size
    return bytes
  }

  async close(): Promise<void> {
    const files = [this.file, ...furtherFiles(this.image)]
    const closing = await Promise.allSettled([...files.map((file) => file.close()), this.parent?.close()])
    for (const result of closing) if (result.status === 'rejected') throw result.reason
  }

  /** The error for a range that leaves the disk. */
  protected outside(offset: number, length: number): Error {
    return fault(this.file, 'io', 'the range passes the end of the disk', 'offset', {
      value: offset,
      rule: `offset + ${length} at most ${this.size}`,
    })
  }

  /** The error for a part that its descriptor forbids, or whose file was not opened. */
  protected unreachable(offset: number): Error {
    const part = this.image.parts[partAt(this.image.parts, offset)]
    const reason =
      part?.access === 'NOACCESS'
        ? 'the descriptor forbids access to this part of the disk'
        : 'the extent was not opened'
    return fault(this.file, 'denied', reason, 'extent', { value: part?.name ?? part?.type ?? '', code: 'EACCES' })
  }
}

/** Where the zlib stream of a grain begins. Without markers either its length stands before it (as VMware's own writer has it), or nothing does (as QEMU reads it). */
function streamStart(packed: Uint8Array, markers: boolean): number {
  if (markers) return grainMarkerBytes
  return isZlib(packed, 4) && !isZlib(packed, 0) ? 4 : 0
}

/** Whether a zlib stream can begin here. Source: RFC 1950, section 2.2. */
function isZlib(bytes: Uint8Array, at: number): boolean {
  if (bytes.length < at + 2) return false
  return ((bytes[at] as number) & 0x0f) === 8 && viewOf(bytes).getUint16(at) % 31 === 0
}

/** The extents of a flat part: its file knows where it has holes. */
async function* flatExtents(run: Run, offset: number, signal?: AbortSignal): AsyncIterable<Extent> {
  const source = run.file as ByteSource
  const there = Math.max(0, Math.min(run.length, source.size - run.host))
  if (there > 0) {
    for await (const batch of source.extents(run.host, there, signal)) {
      for (const extent of batch) {
        const host = { source, offset: extent.offset }
        yield { ...extent, offset: offset + extent.offset - run.host, allocated: true, data: true, depth: 0, host }
      }
    }
  }
  if (there < run.length) {
    const host = { source, offset: run.host + there }
    yield {
      offset: offset + there,
      length: run.length - there,
      allocated: true,
      data: true,
      zero: true,
      depth: 0,
      host,
    }
  }
}

/** Waits for all, and only then passes on the first error: no read may go on into a buffer that was given back. */
async function settle(reads: Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(reads)
  reads.length = 0
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
