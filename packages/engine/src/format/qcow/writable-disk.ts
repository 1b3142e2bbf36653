/** Writing a qcow image: guest bytes, packed clusters, zeros. Space is taken at the end of the file, cluster after cluster and table after table, as
 *  QEMU takes it; tables are written when what they point at has reached the disk. */
import { roundDown, roundUp } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import {
  type ByteStore,
  type Disk,
  type Extent,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import type { TablePage } from '../entry-tables.ts'
import { track } from '../gathered-writes.ts'
import { checkSizeChange, clearGained } from '../growth.ts'
import { type MappedRun, type MappedUnit, settled } from '../mapped-disk.ts'
import { RequestsUnderWay } from '../requests-under-way.ts'
import { SectorEdges } from '../sector-edges.ts'
import { QcowDisk, type QcowImage } from './disk.ts'
import { moveL1, writeHeader } from './growth.ts'
import { lastUse } from './last-use.ts'
import { endOfNames, geometryOf, mostL1Entries, packedEntry, packedFlag } from './layout.ts'
import { PackedGather } from './packed-gather.ts'

const sector = 512
/** Zeros that are written at once where there is no other way. */
const zeroBytes = 256 * 1024

/** A qcow image opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableQcowDisk extends QcowDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  readonly packedUnit: number | undefined
  readonly packedCodec: 'deflate' | undefined
  /** Bytes of a cluster. */
  readonly #unit: number
  readonly #edges = new SectorEdges(sector)
  /** Requests that come to write after they have waited for others. */
  readonly #underWay = new RequestsUnderWay()
  /** Held while a request finds its clusters, so that requests allocate in the order of their calls. */
  readonly #order = new Mutex()
  readonly #gather: PackedGather
  /** Where the next thing is put: the end of the file in whole sectors. */
  #end: number | undefined
  /** The file is this long at least, once it is written back: plain clusters are whole. */
  #wholeEnd = 0
  #closed = false

  constructor(image: QcowImage, store: ByteStore, parent: Disk | undefined) {
    super(image, parent)
    this.store = store
    this.kind = store.kind
    this.#unit = image.geometry.clusterSize
    // Packed clusters lie in clear.
    this.packedUnit = image.header.cryptMethod === 0 ? this.#unit : undefined
    this.packedCodec = image.header.cryptMethod === 0 ? 'deflate' : undefined
    this.#gather = new PackedGather(store)
  }

  protected override async unpack(host: number, unit: MappedUnit, signal?: AbortSignal): Promise<Uint8Array> {
    await this.#gather.flush()
    return super.unpack(host, unit, signal)
  }

  override async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    // They tell where packed bytes lie.
    await this.#gather.flush()
    yield* super.extents(offset, length, signal)
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    if (this.encrypted && !this.#edges.fits(offset, from.length)) {
      const write = (at: number, bytes: Uint8Array): Promise<void> => this.#writeAligned(at, bytes, signal)
      return this.#underWay.track(this.#edges.write(this, offset, from, write))
    }
    return this.#writeAligned(offset, from, signal)
  }

  /** Writes into a cluster that is there, encrypted where the image is. */
  #writeData(host: number, guest: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const sealed = this.encrypted ? this.cipher.encrypt(guest / sector, bytes) : bytes
    return this.store.write(host, sealed, signal)
  }

  #writeAligned(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    try {
      const run = this.resolve(offset, from.length)
      if (run instanceof Promise)
        run.catch(() => {}) // It is asked for again below.
      else if (run.kind === 'data' && run.length === from.length) {
        this.#refuseTables(run)
        return this.#writeData(run.host, offset, from, signal)
      }
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#write(offset, from, signal)
  }

  async #write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const writes: Promise<void>[] = []
    try {
      await this.#order.run(() => this.#writeInOrder(offset, from, writes, signal))
    } finally {
      await settled(writes)
    }
  }

  async #writeInOrder(offset: number, from: Uint8Array, writes: Promise<void>[], signal?: AbortSignal): Promise<void> {
    for (let at = offset; at < offset + from.length; ) {
      throwIfCancelled(signal, this.name)
      const run = await this.resolve(at, offset + from.length - at)
      const bytes = from.subarray(at - offset, at - offset + run.length)
      if (run.kind === 'data') {
        this.#refuseTables(run)
        track(writes, this.#writeData(run.host, at, bytes, signal))
        at += run.length
      } else if (run.kind === 'packed' || this.encrypted || this.#isOver(at)) {
        at += await this.#replace(at, bytes)
      } else {
        const { page, index, clusters } = await this.#entriesFor(at, bytes.length)
        const host = await this.#take(clusters)
        const skip = at % this.#unit
        const length = Math.min(bytes.length, clusters * this.#unit - skip)
        // Cut short, the clusters read as zeros, which is what they were.
        this.#link(page, index, clusters, host)
        track(writes, this.store.write(host + skip, bytes.subarray(0, length), signal))
        at += length
      }
      if (this.image.tables.crowded) await this.#writeBack()
    }
  }

  /** Whether something shows through where this image has nothing. */
  #isOver(offset: number): boolean {
    return this.lacksParent || (this.parent !== undefined && offset - (offset % this.#unit) < this.parent.size)
  }

  /** Gives clusters that showed something before a place of their own, written whole before anything points there. Returns how many of
   *  the bytes were written. */
  async #replace(offset: number, from: Uint8Array): Promise<number> {
    const { page, index, clusters } = await this.#entriesFor(offset, from.length, true)
    const unit = this.#unit
    const start = offset - (offset % unit)
    const end = Math.min(start + clusters * unit, this.size)
    const length = Math.min(from.length, end - offset)
    let whole = from.subarray(0, length)
    if (start !== offset || end !== offset + length) {
      whole = new Uint8Array(end - start)
      await this.read(start, whole.subarray(0, offset - start))
      await this.read(offset + length, whole.subarray(offset + length - start))
      whole.set(from.subarray(0, length), offset - start)
    }
    const host = await this.#take(clusters)
    await this.#writeData(host, start, whole)
    this.#link(page, index, clusters, host)
    return length
  }

  /** The entries of the clusters from `offset` on that need a new place, as far as they stand in one page. With `packed`, packed ones count too,
   *  one at a time. A table that is missing is made. */
  async #entriesFor(offset: number, length: number, packed = false) {
    const { page, at } = await this.#entryOf(offset)
    const unit = this.#unit
    const most = Math.ceil(((offset % unit) + length) / unit)
    let clusters = 0
    for (let i = at; clusters < most && i < page.bytes.length; i += 8, clusters++) {
      const upper = page.view.getUint32(i)
      if (upper === 0 && page.view.getUint32(i + 4) === 0) continue
      if (packed && upper >= packedFlag && clusters === 0) clusters = 1
      break
    }
    if (clusters === 0) throw this.fault('corrupt', 'a table changed while it was used', { offset: page.offset + at })
    return { page, index: at, clusters }
  }

  /** The L2 entry of a guest offset. */
  async #entryOf(offset: number): Promise<{ page: TablePage; at: number }> {
    const { tables, geometry } = this.image
    const l1Index = Math.floor(offset / geometry.l2Cover)
    const l1Place = this.l1Place(l1Index)
    const l1 = await tables.load(l1Place)
    let table = this.tableAt(l1, l1Place.at)
    if (table === 0) {
      const end = await this.#findEnd()
      table = roundUp(end, this.#unit)
      this.#end = table + geometry.l2Bytes
      tables.fresh('l2', table, geometry.l2Bytes)
      tables.set(l1, l1Place.at, Math.floor(table / 2 ** 32), table % 2 ** 32)
    }
    const place = this.l2Place(table, Math.floor((offset % geometry.l2Cover) / geometry.clusterSize))
    return { page: await tables.load(place), at: place.at }
  }

  #link(page: TablePage, index: number, clusters: number, host: number): void {
    for (let i = 0; i < clusters; i++) {
      const at = host + i * this.#unit
      this.image.tables.set(page, index + i * 8, Math.floor(at / 2 ** 32), at % 2 ** 32)
    }
  }

  /** Takes room for clusters, which reads as zeros. Returns its byte offset in the file. */
  async #take(clusters: number): Promise<number> {
    const unit = this.#unit
    const host = roundUp(await this.#findEnd(), unit)
    const end = host + clusters * unit
    if (this.kind === 'device') {
      if (end > this.store.size) {
        throw this.fault('io', 'No space left on device', { offset: host, code: 'ENOSPC' })
      }
      await this.store.zero(host, end - host, 'unmap')
    }
    this.#end = end
    this.#wholeEnd = end
    return host
  }

  /** Where the next thing is put. */
  async #findEnd(): Promise<number> {
    if (this.#end !== undefined) return this.#end
    const { header, geometry } = this.image
    const tableEnd = header.l1Offset + geometry.l1Entries * 8
    // A device does not tell by its length.
    const end = this.kind === 'device' ? await lastUse(this.image) : Math.max(this.store.size, tableEnd)
    this.#end = roundUp(end, sector)
    return this.#end
  }

  /** Guest bytes never go over the header or the L1 table. */
  #refuseTables({ host, length }: MappedRun): void {
    const { header, geometry } = this.image
    const end = header.l1Offset + geometry.l1Entries * 8
    if (host >= endOfNames(header) && (host >= end || host + length <= header.l1Offset)) return
    throw this.fault('corrupt', 'a cluster lies over the header or the L1 table', {
      field: 'L2 entry',
      value: host,
      rule: `outside of 0 to ${endOfNames(header)} and of ${header.l1Offset} to ${end}`,
    })
  }

  async writePacked(offset: number, packed: Uint8Array): Promise<void> {
    const unit = this.#unit
    if (offset < 0 || offset % unit !== 0 || offset >= this.size || packed.length === 0 || packed.length >= unit) {
      throw this.fault('invalid', 'a compressed cluster must be a whole cluster, and smaller than one', {
        field: 'offset',
        value: offset,
        rule: `a multiple of ${unit}; 1 to ${unit - 1} bytes`,
      })
    }
    if (this.encrypted) {
      throw this.fault('unsupported', 'Compression and encryption not supported at the same time', {})
    }
    await this.#order.run(async () => {
      const { page, at } = await this.#entryOf(offset)
      if (page.view.getUint32(at) !== 0 || page.view.getUint32(at + 4) !== 0) {
        const place = { field: 'offset', value: offset }
        throw this.fault('invalid', 'a compressed cluster cannot replace an allocated one', place)
      }
      const host = await this.#findEnd()
      const end = host + packed.length
      if (this.kind === 'device' && end > this.store.size) {
        throw this.fault('io', 'No space left on device', { offset: host, code: 'ENOSPC' })
      }
      this.#gather.add(host, packed)
      this.#end = roundUp(end, sector)
      this.image.tables.set(page, at, ...packedEntry(host, packed.length, this.image.header.clusterBits))
      if (this.image.tables.crowded) await this.#writeBack()
    })
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    if (!this.encrypted || this.#edges.fits(offset, length)) return this.#zeroRuns(offset, length, mode, signal)
    await this.#underWay.track(this.#zeroParts(offset, length, mode, signal))
  }

  async #zeroParts(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    // Parts of sectors are written; what lies between them is zeroed.
    const from = Math.min(offset + length, roundUp(offset, sector))
    const to = Math.max(from, roundDown(offset + length, sector))
    await this.write(offset, new Uint8Array(from - offset), signal)
    if (to > from) await this.#zeroRuns(from, to - from, mode, signal)
    await this.write(to, new Uint8Array(offset + length - to), signal)
  }

  #zeroRuns(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    return this.#eachRun(offset, length, signal, async (at, run) => {
      if (run.kind === 'data' && !this.encrypted) {
        this.#refuseTables(run)
        await this.store.zero(run.host, run.length, mode, signal)
        return run.length
      }
      // Zeros are encrypted like anything else.
      const over = run.kind === 'packed' || run.kind === 'data' || this.#isOver(at)
      if (!over && mode === 'unmap') return run.length
      const part = Math.min(run.length, zeroBytes)
      if (run.kind === 'packed' && mode === 'unmap' && !this.#isOver(at) && this.#isWhole(at, run.length)) {
        const { page, at: index } = await this.#entryOf(at)
        this.image.tables.set(page, index, 0, 0)
        return run.length
      }
      const writes: Promise<void>[] = []
      try {
        await this.#writeInOrder(at, new Uint8Array(part), writes, signal)
      } finally {
        await settled(writes)
      }
      return part
    })
  }

  /** Whether a range is all of a cluster that the guest sees. */
  #isWhole(offset: number, length: number): boolean {
    return offset % this.#unit === 0 && (length === this.#unit || offset + length === this.size)
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#eachRun(offset, length, undefined, async (_at, run) => {
      if (run.kind !== 'data' || this.encrypted) return run.length
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

  /** Grows the disk. An L1 table that becomes longer is written anew at the end of the file; where the backing file reaches further than the disk did, it stays hidden.
   *  @throws MoraineError as `checkSizeChange`. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { header, geometry, context } = this.image
    checkSizeChange(
      this,
      { size, preallocation, shrink },
      {
        unit: sector,
        most: mostL1Entries * geometry.l2Cover,
        limit: context.limits.virtualSize,
        growsOnly: 'the format has no list of free clusters',
      },
    )
    const before = geometry.virtualSize
    if (size === geometry.virtualSize) return
    const larger = geometryOf({ ...header, size })
    if (larger.l1Entries > geometry.l1Entries)
      await this.alone(async () => moveL1(this, larger.l1Entries, await this.#findEnd()))
    this.image.geometry = larger
    try {
      const shown = this.lacksParent ? size : (this.parent?.size ?? 0)
      await clearGained(this, { from: before, unit: this.#unit, shown })
      await this.flush()
      await this.alone(() => writeHeader(this, { size }))
    } catch (error) {
      this.image.geometry = geometry
      this.image.tables.clear()
      throw error
    }
  }

  /** Gives up all that the image holds, so that what is below shows again: an empty first table, and the file cut behind it. */
  async makeEmpty(): Promise<void> {
    const { header, geometry, tables } = this.image
    await this.alone(async () => {
      const bytes = geometry.l1Entries * 8
      await this.store.zero(header.l1Offset, bytes, 'allocate')
      await this.store.flush()
      tables.clear()
      if (this.kind === 'device') return
      await this.store.resize(Math.max(endOfNames(header), header.l1Offset + bytes))
      await this.store.flush()
    })
  }

  flush(): Promise<void> {
    return this.#order.run(() => this.#writeBack())
  }

  async #writeBack(): Promise<void> {
    const { tables } = this.image
    await this.#gather.flush()
    if (this.kind !== 'device' && this.store.size < this.#wholeEnd) await this.store.resize(this.#wholeEnd)
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
        this.#wholeEnd = 0
        this.forgetUnpacked()
      }
    })
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.#underWay.none()
      await this.flush()
    } finally {
      await super.close()
    }
  }
}
