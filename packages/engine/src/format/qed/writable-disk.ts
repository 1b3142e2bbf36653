/** Writing a QED image: guest bytes, zeros, discards. Space is taken at the end of the file as QEMU takes it: the clusters of a request, then the table
 *  that is missing. Tables are written when what they point at has reached the disk. */

import { roundUp } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import { encodeName } from '../../bytes/name-text.ts'
import {
  type ByteStore,
  type Disk,
  MoraineError,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import type { TablePage } from '../entry-tables.ts'
import { type MappedRun, settled } from '../mapped-disk.ts'
import { entryAt, QedDisk, type QedImage, zeroEntry } from './disk.ts'
import { encodeHeader, feature, headerBytes, largestDisk, mostNameBytes } from './layout.ts'

/** Zeros that are written at once where there is no other way. */
const zeroBytes = 256 * 1024

/** A QED image opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableQedDisk extends QedDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  /** Held while a request finds its clusters, so that requests allocate in the order of their calls. */
  readonly #order = new Mutex()
  /** Where the next thing is put: the end of the file in whole clusters. */
  #end: number | undefined
  #closed = false

  constructor(image: QedImage, store: ByteStore, parent: Disk | undefined) {
    super(image, parent)
    this.store = store
    this.kind = store.kind
  }

  protected override get fileEnd(): number {
    return Math.max(this.store.size, this.#end ?? 0)
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    let loading: Promise<MappedRun> | undefined
    try {
      const run = this.resolve(offset, from.length)
      if (run instanceof Promise) {
        run.catch(() => {}) // Looked at below.
        loading = run
      } else if (run.kind === 'data' && run.length === from.length) {
        this.#refuseTables(run)
        return this.store.write(run.host, from, signal)
      }
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#write(offset, from, loading, signal)
  }

  async #write(
    offset: number,
    from: Uint8Array,
    loading: Promise<MappedRun> | undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    const writes: Promise<void>[] = []
    try {
      await this.#order.run(async () => {
        await loading
        await this.#writeInOrder(offset, from, writes, signal)
      })
    } finally {
      await settled(writes)
    }
  }

  async #writeInOrder(offset: number, from: Uint8Array, writes: Promise<void>[], signal?: AbortSignal): Promise<void> {
    for (let at = offset; at < offset + from.length; ) {
      throwIfCancelled(signal, this.name)
      const run = await this.resolve(at, offset + from.length - at)
      if (run.kind === 'data') {
        this.#refuseTables(run)
        track(writes, this.store.write(run.host, from.subarray(at - offset, at - offset + run.length), signal))
        at += run.length
      } else at += await this.#allocate(at, from.subarray(at - offset), writes, signal)
      if (this.image.tables.crowded) await this.#writeBack()
    }
  }

  /** Gives clusters from `offset` on that have no place one, and writes there. Returns how many of the bytes were taken. */
  async #allocate(
    offset: number,
    from: Uint8Array,
    writes: Promise<void>[],
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { clusterSize } = this.image.header
    const skip = offset % clusterSize
    const start = offset - skip
    const clusters = await this.#placeless(start, Math.ceil((skip + from.length) / clusterSize))
    const end = Math.min(start + clusters * clusterSize, this.size)
    const length = Math.min(from.length, end - offset)
    const whole = start === offset && end === offset + length
    const over = this.#isOver(start)
    let bytes = from.subarray(0, length)
    if (over && !whole) {
      bytes = new Uint8Array(end - start)
      await this.read(start, bytes.subarray(0, skip))
      await this.read(offset + length, bytes.subarray(skip + length))
      bytes.set(from.subarray(0, length), skip)
    }
    const host = await this.#take(clusters)
    // Cut short, new clusters read as zeros: that must be what they were.
    if (over) await this.store.write(host + (whole ? skip : 0), bytes)
    else track(writes, this.store.write(host + skip, bytes, signal))
    await this.#link(start, clusters, (i) => host + i * clusterSize)
    return length
  }

  /** Whether something shows through where this image has nothing. */
  #isOver(offset: number): boolean {
    return this.lacksParent || (this.parent !== undefined && offset < this.parent.size)
  }

  /** How many clusters from `start` on, at most `most`, have no place; those of one table only. */
  async #placeless(start: number, most: number): Promise<number> {
    const { tables, geometry, header } = this.image
    const first = Math.floor((start % geometry.l2Cover) / header.clusterSize)
    const end = Math.min(first + most, geometry.entries)
    const l1Place = this.l1Place(Math.floor(start / geometry.l2Cover))
    const table = this.tableAt(await tables.load(l1Place), l1Place.at)
    if (table === 0) return end - first
    let index = first
    while (index < end) {
      const place = this.l2Place(table, index)
      const { view, bytes } = await tables.load(place)
      for (let at = place.at; at < bytes.length && index < end; at += 8, index++) {
        if (entryAt(view, at) > zeroEntry) return index - first
      }
    }
    return index - first
  }

  /** Sets the entries of clusters from `start` on, which are those of one table. The table is made if it is missing. */
  async #link(start: number, clusters: number, value: (index: number) => number): Promise<void> {
    const { tables, geometry, header } = this.image
    const l1Place = this.l1Place(Math.floor(start / geometry.l2Cover))
    const l1 = await tables.load(l1Place)
    let table = this.tableAt(l1, l1Place.at)
    if (table === 0) {
      table = await this.#take(header.tableSize)
      tables.fresh('l2', table, geometry.tableBytes)
      this.#set(l1, l1Place.at, table)
    }
    const first = Math.floor((start % geometry.l2Cover) / header.clusterSize)
    for (let done = 0; done < clusters; ) {
      const place = this.l2Place(table, first + done)
      const page = await tables.load(place)
      for (let at = place.at; at < page.bytes.length && done < clusters; at += 8) this.#set(page, at, value(done++))
    }
  }

  #set(page: TablePage, at: number, value: number): void {
    this.image.tables.set(page, at, Math.floor(value / 2 ** 32), value % 2 ** 32)
  }

  /** Takes room for clusters, which reads as zeros. Returns its byte offset in the file. */
  async #take(clusters: number): Promise<number> {
    const { clusterSize } = this.image.header
    this.#end ??= await this.#findEnd()
    const host = this.#end
    const end = host + clusters * clusterSize
    if (this.kind === 'device') {
      if (end > this.store.size) {
        throw this.fault('io', 'No space left on device', { offset: host, code: 'ENOSPC' })
      }
      await this.store.zero(host, end - host, 'unmap')
    }
    this.#end = end
    return host
  }

  async #findEnd(): Promise<number> {
    const { header, geometry } = this.image
    const tableEnd = header.l1Offset + geometry.tableBytes
    // A device does not tell by its length.
    const end = this.kind === 'device' ? await this.#lastUse() : Math.max(this.store.size, tableEnd)
    return roundUp(end, header.clusterSize)
  }

  /** Byte offset behind everything that the tables point at. */
  async #lastUse(): Promise<number> {
    const { header, geometry } = this.image
    let end = header.l1Offset + geometry.tableBytes
    for await (const table of this.#entries('l1', header.l1Offset)) {
      if (table === 0) continue
      end = Math.max(end, table + geometry.tableBytes)
      for await (const host of this.#entries('l2', table)) {
        if (host > zeroEntry) end = Math.max(end, host + header.clusterSize)
      }
    }
    return end
  }

  async *#entries(kind: 'l1' | 'l2', table: number): AsyncGenerator<number> {
    const { tables, geometry } = this.image
    for (let index = 0; index < geometry.entries; ) {
      const { page, bytes } = kind === 'l1' ? this.l1Place(index) : this.l2Place(table, index)
      const read = await tables.read(page, bytes)
      const view = new DataView(read.buffer, read.byteOffset, read.byteLength)
      for (let at = 0; at < bytes; at += 8, index++) yield entryAt(view, at)
    }
  }

  /** Guest bytes never go over the L1 table. */
  #refuseTables({ host, length }: MappedRun): void {
    const { header, geometry } = this.image
    if (host + length <= header.l1Offset || host >= header.l1Offset + geometry.tableBytes) return
    const place = { field: 'L2 entry', value: host, rule: 'a cluster outside the L1 table' }
    throw this.fault('corrupt', 'a cluster lies over the L1 table', place)
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    return this.#eachRun(offset, length, signal, async (at, run) => {
      if (run.kind === 'data') {
        this.#refuseTables(run)
        await this.store.zero(run.host, run.length, mode, signal)
        return run.length
      }
      if (mode === 'unmap' && (run.kind === 'zero' || !this.#isOver(at - (at % this.image.header.clusterSize)))) {
        return run.length
      }
      const whole = mode === 'unmap' ? await this.#zeroWhole(at, run.length) : 0
      return whole > 0 ? whole : this.#writeZeros(at, run.length, signal)
    })
  }

  /** Marks whole clusters as zeros. Returns how many bytes they are; 0 when `offset` is not where one begins, or ends before the run does. */
  async #zeroWhole(offset: number, length: number): Promise<number> {
    const { clusterSize } = this.image.header
    if (offset % clusterSize !== 0) return 0
    const end = offset + length === this.size ? roundUp(this.size, clusterSize) : offset + length
    const most = Math.floor((end - offset) / clusterSize)
    const clusters = most === 0 ? 0 : await this.#placeless(offset, most)
    if (clusters === 0) return 0
    await this.#link(offset, clusters, () => zeroEntry)
    return Math.min(clusters * clusterSize, length)
  }

  /** Writes zeros, up to where the next whole cluster begins. Returns how many. */
  async #writeZeros(offset: number, length: number, signal: AbortSignal | undefined): Promise<number> {
    const { clusterSize } = this.image.header
    const rest = clusterSize - (offset % clusterSize)
    const part = Math.min(length, rest < clusterSize ? rest : Math.max(clusterSize, zeroBytes))
    const writes: Promise<void>[] = []
    try {
      await this.#writeInOrder(offset, new Uint8Array(part), writes, signal)
    } finally {
      await settled(writes)
    }
    return part
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#eachRun(offset, length, undefined, async (_at, run) => {
      if (run.kind !== 'data') return run.length
      this.#refuseTables(run)
      const there = Math.min(run.length, this.store.size - run.host)
      if (there > 0) await this.store.discard(run.host, there)
      return run.length
    })
  }

  /** Runs `work` over the runs of a range; it returns how many bytes it has dealt with. */
  async #eachRun(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    work: (at: number, run: MappedRun) => Promise<number>,
  ): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    await this.#order.run(async () => {
      for (let at = offset; at < offset + length; ) {
        throwIfCancelled(signal, this.name)
        at += await work(at, await this.resolve(at, offset + length - at))
        if (this.image.tables.crowded) await this.#writeBack()
      }
    })
  }

  /** Grows the disk. Where the parent reaches further than the disk did, zeros keep it from showing.
   *  @throws MoraineError `unsupported` for a smaller size or a preallocation, `invalid` for more than the tables map. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { header } = this.image
    const refuse = (kind: 'unsupported' | 'invalid' | 'denied', field: string, reason: string): never => {
      throw new MoraineError(kind, reason, { path: this.name, format: 'qed', field, value: size })
    }
    if (size < this.size && !shrink) {
      refuse('denied', 'size', 'Use the --shrink option to perform a shrink operation.')
    }
    if (preallocation !== 'off') {
      refuse('unsupported', 'preallocation', `Unsupported preallocation mode '${preallocation}'`)
    }
    if (size % 512 !== 0 || BigInt(size) > largestDisk(header.clusterSize, header.tableSize)) {
      refuse('invalid', 'size', 'Invalid image size specified')
    }
    if (size < this.size) refuse('unsupported', 'size', 'Shrinking images is currently not supported')
    const before = this.size
    if (size === before) return
    const shown = this.lacksParent ? size : Math.min(size, this.parent?.size ?? 0)
    header.imageSize = size
    try {
      if (shown > before) await this.zero(before, shown - before, 'unmap')
      header.imageSize = before
      await this.flush()
      header.imageSize = size
      await this.#writeHeader()
    } catch (error) {
      header.imageSize = before
      throw error
    }
  }

  async changeBacking(backing: { name: string; format?: string | undefined } | undefined): Promise<void> {
    const name = encodeName(backing?.name ?? '')
    const { header, geometry } = this.image
    if (name.length > mostNameBytes || headerBytes + name.length > geometry.headerEnd) {
      const rule = `at most ${Math.min(mostNameBytes, geometry.headerEnd - headerBytes)} bytes`
      throw this.fault('invalid', 'Invalid argument', { field: 'backing file', value: backing?.name ?? '', rule })
    }
    await this.alone(async () => {
      const features = header.features & ~(feature.backing | feature.rawBacking)
      header.features = features | (backing === undefined ? 0 : feature.backing)
      if (backing?.format === 'raw') header.features |= feature.rawBacking
      header.backingOffset = backing === undefined ? header.backingOffset : headerBytes
      header.backingLength = name.length
      // The header and the name that it points at are written as one.
      const bytes = new Uint8Array(headerBytes + name.length)
      bytes.set(encodeHeader(header))
      bytes.set(name, headerBytes)
      await this.store.write(0, bytes)
      await this.store.flush()
    })
  }

  async #writeHeader(): Promise<void> {
    await this.store.write(0, encodeHeader(this.image.header))
    await this.store.flush()
  }

  flush(): Promise<void> {
    return this.#order.run(() => this.#writeBack())
  }

  async #writeBack(): Promise<void> {
    const { tables, header } = this.image
    if (this.kind !== 'device' && this.#end !== undefined && this.store.size < this.#end) {
      await this.store.resize(this.#end)
    }
    // As QEMU does: over a backing file the order of writes is enough for it.
    if (tables.dirty && (header.features & (feature.needCheck | feature.backing)) === 0) {
      header.features |= feature.needCheck
      try {
        await this.store.write(0, encodeHeader(header))
      } catch (error) {
        header.features &= ~feature.needCheck
        throw error
      }
    }
    await this.store.flush()
    if (!tables.dirty) return
    if (await tables.writeBack('l2', this.store)) await this.store.flush()
    if (await tables.writeBack('l1', this.store)) await this.store.flush()
  }

  /** Runs `work` on an image all of whose changes are in the file, while nothing else happens. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#order.run(async () => {
      await this.#writeBack()
      try {
        return await work()
      } finally {
        this.#end = undefined
      }
    })
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.flush()
      await this.#markClosed()
    } finally {
      await super.close()
    }
  }

  /** Says that the image was closed; of one that is open for a check only the check says so. */
  async #markClosed(): Promise<void> {
    const { header, context } = this.image
    if ((header.features & feature.needCheck) === 0 || context.purpose === 'check') return
    header.features &= ~feature.needCheck
    await this.#writeHeader()
  }
}

/** Keeps a write that is waited for later; until then a failure of it is nobody's. */
function track(writes: Promise<void>[], write: Promise<void>): void {
  write.catch(() => {})
  writes.push(write)
}
