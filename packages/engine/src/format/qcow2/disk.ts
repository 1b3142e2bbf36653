/** Reading a qcow2 image: guest bytes, extents, facts, snapshots. */
import {
  appendExtent,
  type Bitmaps,
  type ByteSource,
  type Disk,
  type DiskInfo,
  type Extent,
  type PackedCodec,
  readPadded,
  throwIfCancelled,
} from '../../core/index.ts'
import { readEncrypted } from '../encrypted-data.ts'
import { Qcow2Bitmaps } from './bitmaps.ts'
import { ClusterMap, type Run } from './cluster-map.ts'
import { fault, type Qcow2Image, readL1 } from './image.ts'
import { qcow2Info } from './info.ts'
import { isMostlyPreallocated } from './preallocated.ts'
import type { Snapshot } from './snapshot-table.ts'

/** Extents in one batch. */
const batchSize = 1024

/** The guest's view of a qcow2 image, or of one of its snapshots. */
export class Qcow2Disk implements Disk {
  readonly format = 'qcow2'
  readonly image: Qcow2Image
  readonly parent: Disk | undefined
  readonly bitmaps: Bitmaps | undefined
  readonly map: ClusterMap
  #unpacked: { key: number; bytes: Uint8Array } | undefined
  #preallocated: Promise<boolean> | undefined

  constructor(image: Qcow2Image, parent: Disk | undefined) {
    this.image = image
    this.parent = parent
    this.bitmaps = image.header.version < 3 ? undefined : new Qcow2Bitmaps(image)
    this.map = new ClusterMap(image)
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

  /** How this image packs its compressed clusters. */
  get codec(): PackedCodec {
    return this.image.header.compressionType === 1 ? 'zstd' : 'deflate'
  }

  info(): DiskInfo {
    return qcow2Info(this.image)
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + into.length > this.size) return Promise.reject(this.outside(offset, into.length))
    return this.readAt(offset, into, signal)
  }

  /** Reads without asking whether the range is inside: snapshots keep machine state past the disk's end. */
  protected readAt(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    try {
      const run = this.map.resolve(offset, into.length)
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
      if (run.kind === 'zero') part.fill(0)
      else {
        const read = this.#readRun(run, offset + done, part, signal)
        // It is waited for below; until then a failure of it is nobody's.
        read.catch(() => {})
        reads.push(read)
      }
      done += part.length
      if (done >= into.length) break
      if (reads.length >= 64) await settle(reads)
      try {
        const next = this.map.resolve(offset + done, into.length - done)
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
        return this.#readData(run.host, offset, into, signal)
      case 'zero':
        into.fill(0)
        return Promise.resolve()
      case 'packed':
        return this.#readPacked(run, offset % this.image.geometry.clusterSize, into, signal)
      case 'unallocated':
        return this.#readParent(offset, into, signal)
    }
  }

  #readData(host: number, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { crypt, data, file } = this.image
    file.debugEvent?.('read_aio')
    if (crypt !== undefined) {
      return readEncrypted(crypt.cipher, data, host, crypt.byHost ? host : offset, into, signal)
    }
    if (this.image.header.cryptMethod === 0) return readPadded(data, host, into, signal)
    return Promise.reject(fault(this.image, 'denied', 'the image was opened without its key', 'crypt_method'))
  }

  #readParent(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const there = this.parent === undefined ? 0 : Math.max(0, Math.min(into.length, this.parent.size - offset))
    if (there < into.length) into.fill(0, there)
    if (this.parent === undefined || there === 0) {
      return this.parentUnread(into)
    }
    this.image.file.debugEvent?.('read_backing_aio')
    return this.parent.read(offset, there === into.length ? into : into.subarray(0, there), signal)
  }

  /** What to do where nothing is allocated and no parent answers: zeros, unless a parent should have been opened. */
  protected parentUnread(_into: Uint8Array): Promise<void> {
    if (this.parent === undefined && this.image.header.backingFile !== undefined && !this.image.context.parents) {
      return Promise.reject(fault(this.image, 'denied', 'the backing file was not opened', 'backing file'))
    }
    return Promise.resolve()
  }

  async #readPacked(run: Run, skip: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const key = run.host
    let bytes = this.#unpacked?.key === key ? this.#unpacked.bytes : undefined
    if (bytes === undefined) {
      const codec = this.image.context.codecs[this.codec]
      if (codec === undefined) {
        throw fault(
          this.image,
          'unsupported',
          `no codec at hand for compressed clusters (${this.codec})`,
          'compression_type',
        )
      }
      await this.beforePacked(run.host, run.packedLength)
      const packed = new Uint8Array(run.packedLength)
      this.image.file.debugEvent?.('read_compressed')
      await readPadded(this.image.file, run.host, packed, signal)
      bytes = new Uint8Array(this.image.geometry.clusterSize)
      try {
        codec.unpack(packed, bytes)
      } catch (error) {
        throw fault(this.image, 'corrupt', 'a compressed cluster cannot be decoded', 'compressed cluster', {
          offset: run.host,
          rule: error instanceof Error ? error.message : 'a whole stream',
        })
      }
      this.#unpacked = { key, bytes }
    }
    into.set(bytes.subarray(skip, skip + into.length))
  }

  /** Called before packed bytes are read: a writer may still hold them back. */
  protected async beforePacked(_host: number, _length: number): Promise<void> {}

  /** Forgets decoded clusters; what they lay in was freed. */
  protected forgetUnpacked(): void {
    this.#unpacked = undefined
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    // Metadata preallocation leaves clusters whose bytes are holes of the file: worth asking the file, and only then.
    this.#preallocated ??= isMostlyPreallocated(this.image)
    const askFile = await this.#preallocated
    let batch: Extent[] = []
    const end = offset + length
    for (let at = offset; at < end; ) {
      const found = this.map.resolve(at, end - at)
      const run = found instanceof Promise ? await found : found
      if (run.kind === 'unallocated' && this.parent !== undefined && at < this.parent.size) {
        const there = Math.min(run.length, this.parent.size - at)
        for await (const below of this.parent.extents(at, there, signal)) {
          for (const extent of below) appendExtent(batch, { ...extent, depth: extent.depth + 1 })
          if (batch.length >= batchSize) {
            yield batch
            batch = []
          }
        }
        run.length = there
      } else if (
        run.kind === 'data' &&
        askFile &&
        this.image.header.cryptMethod === 0 &&
        // What a writer has on its way may not have made the file longer yet.
        (run.host < this.image.data.size || this.image.store === undefined)
      ) {
        for await (const extent of this.#hostExtents(run, at, signal)) appendExtent(batch, extent)
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
    const extent: Extent = {
      offset,
      length: run.length,
      allocated: run.kind !== 'unallocated',
      data: run.kind === 'data' || run.kind === 'packed',
      zero: run.kind === 'zero' || run.kind === 'unallocated',
      depth: 0,
    }
    if (run.kind === 'packed') {
      const { clusterSize } = this.image.geometry
      extent.encoded = 'compressed'
      extent.packed = {
        source: this.image.file,
        offset: run.host,
        length: run.packedLength,
        codec: this.codec,
        skip: offset % clusterSize,
        size: clusterSize,
      }
    } else if (run.host >= 0 && this.image.header.cryptMethod === 0) {
      extent.host = { source: this.image.data, offset: run.host }
    } else if (run.kind === 'data') {
      extent.encoded = 'encrypted'
    }
    return extent
  }

  /** The extents of a data run, split where the file itself has holes. Behind its end it is one hole. */
  async *#hostExtents(run: Run, offset: number, signal?: AbortSignal): AsyncIterable<Extent> {
    const source = this.image.data
    const there = Math.max(0, Math.min(run.length, source.size - run.host))
    if (there === 0) {
      yield { ...this.#extentOf(run, offset), zero: true }
      return
    }
    for await (const batch of source.extents(run.host, there, signal)) {
      for (const { offset: host, length, zero } of batch) {
        const at = offset + host - run.host
        yield { offset: at, length, allocated: true, data: true, zero, depth: 0, host: { source, offset: host } }
      }
    }
    if (there < run.length) {
      const rest = { ...run, host: run.host + there, length: run.length - there }
      yield { ...this.#extentOf(rest, offset + there), zero: true }
    }
  }

  async openSnapshot(idOrName: string): Promise<Disk> {
    return this.openSnapshotEntry(findSnapshot(this.image, idOrName))
  }

  /** The same by its entry in the table: ids and names of hostile images need not be unique. */
  async openSnapshotEntry(snapshot: Snapshot): Promise<Disk> {
    const { file, geometry, limits } = this.image
    if (snapshot.l1Size * 8 > 32 * 1024 * 1024 || snapshot.l1Offset % geometry.clusterSize !== 0) {
      throw fault(this.image, 'corrupt', 'Snapshot L1 table offset or size invalid', `snapshot ${snapshot.id}`)
    }
    if (snapshot.diskSize > limits.virtualSize || snapshot.l1Size < Math.ceil(snapshot.diskSize / geometry.l2Cover)) {
      throw fault(this.image, 'corrupt', 'Snapshot L1 table is too small', `snapshot ${snapshot.id}`)
    }
    const l1 = await readL1(file, snapshot.l1Offset, snapshot.l1Size)
    return new SnapshotDisk({ ...this.image, size: snapshot.diskSize, l1 }, this.parent, this.bitmaps)
  }

  allocatedSize(): Promise<number> {
    return this.file.allocatedSize?.() ?? Promise.resolve(this.file.size)
  }

  async close(): Promise<void> {
    const { file, data } = this.image
    await Promise.all([file.close(), data === file ? undefined : data.close(), this.parent?.close()])
  }

  /** The error for a range that leaves the disk. */
  protected outside(offset: number, length: number): Error {
    return fault(this.image, 'io', 'the range passes the end of the disk', 'offset', {
      value: offset,
      rule: `offset + ${length} at most ${this.size}`,
    })
  }
}

/** A snapshot; it borrows the files of the disk it belongs to. */
class SnapshotDisk extends Qcow2Disk {
  override readonly bitmaps: Bitmaps | undefined

  constructor(image: Qcow2Image, parent: Disk | undefined, bitmaps: Bitmaps | undefined) {
    super(image, parent)
    this.bitmaps = bitmaps
  }

  override async close(): Promise<void> {}
}

/** The snapshot with this id or, failing that, this name.
 *  @throws MoraineError `missing`. */
export function findSnapshot(image: Qcow2Image, idOrName: string): Snapshot {
  const found =
    image.snapshots.find(({ id }) => id === idOrName) ?? image.snapshots.find(({ name }) => name === idOrName)
  if (found === undefined) {
    throw fault(image, 'missing', `Can't find snapshot '${idOrName}'`, 'snapshot', { value: idOrName })
  }
  return found
}

/** Waits for all, and only then passes on the first error: no read may go on into a buffer that was given back. */
async function settle(reads: Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(reads)
  reads.length = 0
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
