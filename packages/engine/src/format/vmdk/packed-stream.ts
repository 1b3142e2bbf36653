/** A streamOptimized VMDK written front to back, in one pass: header, descriptor, compressed grains in guest order, each table behind its grains, the directory, the
 *  footer. The order and the markers are VMware's (`Virtual Disk Format 5.0`, "Stream-Optimized Compressed Sparse Extents"): what ESXi, VirtualBox and importers take. */
import { ChunkQueue } from '../../bytes/chunk-queue.ts'
import { roundUp, viewOf } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import { type ByteSource, type DiskInfo, type Extent, MoraineError, type WritableDisk } from '../../core/index.ts'
import type { PackedStream } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { encodeMarker, encodeSparseHeader, flags, markers, newShape, type SparseHeader, sectorBytes } from './layout.ts'
import { layOut, newGrainBytes } from './new-extent.ts'
import type { VmdkPlan } from './options.ts'
import { storedZlib, writeGrain } from './packed-grains.ts'
import { streamDescriptor, streamOptions } from './stream.ts'

/** Bytes of one chunk, and of what waits to be taken. */
const chunkBytes = 1024 * 1024
const waitingBytes = 4 * 1024 * 1024

/** Importers place a disk on a SCSI controller unless told otherwise, and refuse one that says `ide` there. */
const usualAdapter = 'lsilogic'

/** Plans a stream of a disk of `size` bytes; undefined where the options ask for another subformat.
 *  @throws MoraineError as `streamOptions`. */
export function streamPackedVmdk(size: number, options: OptionValues): (() => PackedStream) | undefined {
  const plan = streamOptions({ adapter_type: usualAdapter, ...options })
  if (!plan.compressed) return undefined
  // The same bound as for a file.
  layOut(size, plan)
  return () => {
    const queue = new ChunkQueue(waitingBytes)
    return { target: new StreamTarget(size, plan, queue), chunks: queue, fail: (error) => queue.fail(error) }
  }
}

/** The disk that a stream is made of: it takes whole grains, each after the one before it. */
class StreamTarget implements WritableDisk {
  readonly format = 'vmdk'
  readonly name = 'stream'
  readonly kind = 'file'
  readonly size: number
  readonly packedUnit = newGrainBytes
  readonly packedCodec = 'zlib'
  readonly compression = 'always'
  readonly #plan: VmdkPlan
  readonly #queue: ChunkQueue
  readonly #order = new Mutex()
  readonly #header: SparseHeader
  readonly #directory: Uint32Array
  #table = new Uint8Array(newShape.tableEntries * 4)
  #tableIndex = -1
  #lastGrain = -1
  /** Bytes of the stream so far, the current chunk included. */
  #length = 0
  #chunk = new Uint8Array(chunkBytes)
  #filled = 0
  #closed = false

  constructor(size: number, plan: VmdkPlan, queue: ChunkQueue) {
    this.size = size
    this.#plan = plan
    this.#queue = queue
    const { header, tables } = layOut(size, plan)
    this.#directory = new Uint32Array(tables)
    this.#header = {
      ...header,
      flags: flags.newlines | flags.compressed | flags.markers,
      redundantDirectory: 0,
      directory: 'atEnd',
      overhead: newShape.grainSectors,
    }
  }

  get file(): ByteSource {
    return this
  }

  info(): DiskInfo {
    return { format: this.format, virtualSize: this.size, clusterSize: newGrainBytes, snapshots: [] }
  }

  /** Returns when there is room for more; calls are done in their order. */
  writePacked(offset: number, packed: Uint8Array): Promise<void> {
    return this.#order.run(async () => {
      await this.#begin()
      const grain = offset / newGrainBytes
      if (!Number.isInteger(grain) || grain <= this.#lastGrain || offset >= this.size) {
        throw this.#fault('invalid', 'the grains of a stream follow each other', offset)
      }
      this.#lastGrain = grain
      const index = Math.floor(grain / newShape.tableEntries)
      if (index !== this.#tableIndex) await this.#endTable(index)
      const sector = this.#length / sectorBytes
      const length = roundUp(12 + packed.length, sectorBytes)
      if (sector + length / sectorBytes > 2 ** 32) {
        throw this.#fault('limit', 'the extent is full: its tables cannot point past 2 TiB', offset)
      }
      viewOf(this.#table).setUint32((grain % newShape.tableEntries) * 4, sector, true)
      writeGrain(await this.#room(length), offset / sectorBytes, packed)
    })
  }

  /** What did not shrink. */
  write(offset: number, from: Uint8Array): Promise<void> {
    if (from.length > newGrainBytes) return Promise.reject(this.#fault('invalid', 'one grain at a time', offset))
    const grain = new Uint8Array(newGrainBytes)
    grain.set(from)
    return this.writePacked(offset, storedZlib(grain))
  }

  /** What is left out reads as zeros. */
  async zero(): Promise<void> {}

  async discard(): Promise<void> {}

  async flush(): Promise<void> {}

  read(offset: number): Promise<void> {
    return Promise.reject(this.#fault('unsupported', 'a stream cannot be read back', offset))
  }

  async *extents(offset: number): AsyncIterable<Extent[]> {
    yield await Promise.reject(this.#fault('unsupported', 'a stream cannot be read back', offset))
  }

  resize(size: number): Promise<void> {
    return Promise.reject(this.#fault('unsupported', 'a stream keeps its size', size))
  }

  /** Ends the stream: the last table, directory, footer, end. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#order.run(async () => {
      await this.#begin()
      await this.#endTable(-1)
      const directory = new Uint8Array(roundUp(this.#directory.length * 4, sectorBytes))
      const view = viewOf(directory)
      for (const [i, sector] of this.#directory.entries()) view.setUint32(i * 4, sector, true)
      await this.#append(encodeMarker(markers.grainDirectory, directory.length / sectorBytes))
      const at = this.#length / sectorBytes
      await this.#append(directory)
      await this.#append(encodeMarker(markers.footer, 1))
      await this.#append(encodeSparseHeader({ ...this.#header, directory: at }))
      await this.#append(new Uint8Array(sectorBytes))
      if (this.#filled > 0) await this.#queue.put(this.#chunk.subarray(0, this.#filled))
      this.#queue.end()
    })
  }

  async #begin(): Promise<void> {
    if (this.#length > 0) return
    const head = new Uint8Array(this.#header.overhead * sectorBytes)
    head.set(encodeSparseHeader(this.#header))
    head.set(streamDescriptor(this.#plan, this.size, 'RDONLY'), sectorBytes)
    await this.#append(head)
  }

  /** Writes the table of the grains so far, and begins another. */
  async #endTable(next: number): Promise<void> {
    const index = this.#tableIndex
    this.#tableIndex = next
    if (index < 0) return
    await this.#append(encodeMarker(markers.grainTable, this.#table.length / sectorBytes))
    this.#directory[index] = this.#length / sectorBytes
    await this.#append(this.#table)
    this.#table = new Uint8Array(this.#table.length)
  }

  async #append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + chunkBytes)
      const room = await this.#room(part.length)
      room.set(part)
      at += part.length
    }
  }

  /** The next bytes of the stream, to be filled at once. */
  async #room(length: number): Promise<Uint8Array> {
    if (this.#filled + length > this.#chunk.length) {
      const full = this.#chunk.subarray(0, this.#filled)
      this.#chunk = new Uint8Array(chunkBytes)
      this.#filled = 0
      await this.#queue.put(full)
    }
    const room = this.#chunk.subarray(this.#filled, this.#filled + length)
    this.#filled += length
    this.#length += length
    return room
  }

  #fault(kind: 'invalid' | 'unsupported' | 'limit', reason: string, value: number): MoraineError {
    return new MoraineError(kind, reason, { path: this.name, format: 'vmdk', field: 'offset', value })
  }
}
