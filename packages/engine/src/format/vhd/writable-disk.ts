/** Writing a VHD with blocks: guest bytes, zeros, discards. New blocks go behind the last one, over the footer, which is written again behind them.
 *  What points at bytes is written after them: data, then bitmaps and footer, then the table. */
import { roundDown, roundUp } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import {
  type ByteStore,
  type Disk,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import { track } from '../gathered-writes.ts'
import { checkSizeChange, clearGained, copyAside } from '../growth.ts'
import { type MappedRun, settled } from '../mapped-disk.ts'
import { DynamicVhdDisk } from './disk.ts'
import { lengthenTable, planTable, refuseOverParent, sizeFor } from './growth.ts'
import type { VhdImage } from './image.ts'
import { footerBytes, mostSectors, noBlock, sectorBytes, setSize } from './layout.ts'
import { isSet, type SectorBitmap, sectorBitmap, setBits } from './sector-bitmap.ts'

/** Bitmaps that may wait to be written. */
const mostChanged = 1024

/** What a part of a block becomes: bytes, or zeros. */
type Content = { from: Uint8Array } | { zero: ZeroMode }

/** A VHD with blocks, opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableVhdDisk extends DynamicVhdDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  /** Held while a request finds its blocks, so that requests allocate in the order of their calls. */
  readonly #order = new Mutex()
  /** Where the next block goes, and the footer lies until then. */
  #end: number | undefined
  #footerMoved = false
  #closed = false

  constructor(image: VhdImage, store: ByteStore, parent: Disk | undefined, parentNames: readonly string[]) {
    super(image, parent, parentNames)
    this.store = store
    this.kind = store.kind
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    try {
      const run = this.resolve(offset, from.length)
      if (run instanceof Promise)
        run.catch(() => {}) // It is asked for again below.
      else if (run.kind === 'data' && run.length === from.length) return this.store.write(run.host, from, signal)
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#change(offset, from.length, signal, (at, length) => ({
      from: from.subarray(at - offset, at - offset + length),
    }))
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (length > 0) await this.#change(offset, length, signal, () => ({ zero: mode }))
  }

  /** Does block after block what a request asks; bytes that nothing has to wait for are written together. */
  async #change(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    contentOf: (at: number, length: number) => Content,
  ): Promise<void> {
    const writes: Promise<void>[] = []
    try {
      await this.#order.run(async () => {
        const { blockSize } = this.image.header
        for (let at = offset; at < offset + length; ) {
          throwIfCancelled(signal, this.name)
          const part = Math.min(offset + length - at, blockSize - (at % blockSize))
          await this.#changePart(at, part, contentOf(at, part), writes, signal)
          at += part
        }
      })
    } finally {
      await settled(writes)
    }
  }

  async #changePart(
    at: number,
    length: number,
    content: Content,
    writes: Promise<void>[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { table, header } = this.image
    const block = Math.floor(at / header.blockSize)
    let sector = await table.get(block)
    if (sector === noBlock) {
      if ('zero' in content && content.zero === 'unmap' && !this.#showsParent(at, length)) return
      sector = await this.#allocate(block)
    }
    this.image.hostOf(sector)
    const bitmap = this.image.peekBitmap(sector) ?? (await this.image.loadBitmap(block, sector))
    if (bitmap.full) {
      const host = this.image.hostOf(sector) + (at % header.blockSize)
      track(writes, this.#put(host, length, content, signal))
      return
    }
    await this.#changeSectors(sector, bitmap, at, length, content, signal)
  }

  #put(host: number, length: number, content: Content, signal: AbortSignal | undefined): Promise<void> {
    if ('from' in content) return this.store.write(host, content.from, signal)
    return this.store.zero(host, length, content.zero, signal)
  }

  #showsParent(offset: number, length: number): boolean {
    return this.lacksParent || (this.parent !== undefined && offset < this.parent.size && length > 0)
  }

  /** Changes sectors of a block that does not have all of them. Their bits are set once the bytes are written, so that no bit is set before. */
  async #changeSectors(
    sector: number,
    bitmap: SectorBitmap,
    at: number,
    length: number,
    content: Content,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { blockSize } = this.image.header
    const start = roundDown(at, sectorBytes)
    const end = roundUp(at + length, sectorBytes)
    const base = this.image.hostOf(sector) - (at - (at % blockSize))
    const first = (start % blockSize) / sectorBytes
    const last = first + (end - start) / sectorBytes
    // The rest of a sector at either end keeps what it shows: of one that is not in the file all is written, and other writes to it wait, as this one holds the order. Of one that is,
    // others may write the rest at the same time.
    const from = isSet(bitmap.bytes, first) ? at : start
    const to = isSet(bitmap.bytes, last - 1) ? at + length : end
    if (from === at && to === at + length) await this.#put(base + at, length, content, signal)
    else {
      const inner = { start: roundUp(at, sectorBytes), end: roundDown(at + length, sectorBytes) }
      if ('zero' in content && inner.end > inner.start) {
        await this.#put(base + inner.start, inner.end - inner.start, content, signal)
        const [head, tail] = [new Uint8Array(inner.start - at), new Uint8Array(at + length - inner.end)]
        if (head.length > 0) await this.#mend(base, { from, to: inner.start }, at, head)
        if (tail.length > 0) await this.#mend(base, { from: inner.end, to }, inner.end, tail)
      } else {
        await this.#mend(base, { from, to }, at, 'from' in content ? content.from : new Uint8Array(length))
      }
    }
    setBits(bitmap, first, last)
    const { full } = sectorBitmap(bitmap.bytes, blockSize / sectorBytes)
    bitmap.full = full
    this.image.touchBitmap(sector, bitmap)
    await this.#settleCrowd()
  }

  /** Writes a range: `bytes` at `at`, and around them what is there. */
  async #mend(base: number, { from, to }: { from: number; to: number }, at: number, bytes: Uint8Array): Promise<void> {
    const whole = new Uint8Array(to - from)
    const behind = at + bytes.length
    if (at > from) await this.read(from, whole.subarray(0, at - from))
    if (to > behind) await this.read(behind, whole.subarray(behind - from, Math.min(to, this.size) - from))
    whole.set(bytes, at - from)
    await this.store.write(base + from, whole)
  }

  /** Gives a block a place: one that reads as zeros with every sector in it, or one that shows the parent with none. Returns its sector. */
  async #allocate(block: number): Promise<number> {
    this.#end ??= await this.image.firstFree()
    const start = this.#end
    const end = start + this.image.stride
    const sector = start / sectorBytes
    if (sector >= noBlock) {
      const place = { field: 'table entry', value: sector, rule: 'blocks within 2 TiB of the file', code: 'EFBIG' }
      throw this.fault('limit', 'the file is too large for another block', place)
    }
    if (this.kind === 'device') {
      if (end + footerBytes > this.store.size) {
        throw this.fault('io', 'No space left on device', { offset: start, code: 'ENOSPC' })
      }
      await this.store.zero(start, end - start, 'unmap')
    } else if (start < this.store.size) {
      // The old footer, or what a power cut left behind the last block.
      await this.store.zero(start, Math.min(end, this.store.size) - start, 'unmap')
    }
    this.image.newBitmap(sector, !this.image.isDifferencing)
    await this.image.table.set(block, sector)
    this.#end = end
    this.#footerMoved = true
    await this.#settleCrowd()
    return sector
  }

  async #settleCrowd(): Promise<void> {
    if (this.image.table.crowded || this.image.changedBitmaps > mostChanged) await this.#writeBack()
  }

  async discard(offset: number, length: number): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (length === 0) return
    await this.#order.run(async () => {
      for (let at = offset; at < offset + length; ) {
        const found = this.resolve(at, offset + length - at)
        const run: MappedRun = found instanceof Promise ? await found : found
        const there = Math.min(run.length, this.store.size - run.host)
        if (run.kind === 'data' && there > 0) await this.store.discard(run.host, there)
        at += run.length
      }
    })
  }

  /** Grows the disk. Where the creator of the image is believed on its geometry, to the next size that a geometry has. Blocks in the way of a longer table move behind the last one.
   *  @throws MoraineError as `checkSizeChange`; `unsupported` for a differencing image, and where other structures stand behind the table. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { header, footer, context } = this.image
    const rules = { unit: sectorBytes, most: mostSectors * sectorBytes, limit: context.limits.virtualSize }
    const growsOnly = 'other programs look for the next place behind the last block'
    checkSizeChange(this, { size, preallocation, shrink }, { ...rules, growsOnly })
    const before = { size: this.size, geometry: footer.geometry }
    if (size === before.size) return
    if (this.image.isDifferencing) throw refuseOverParent(this.name, size)
    const after = sizeFor(footer, size, this.name, context.vhdSize)
    const entries = Math.ceil(after.size / header.blockSize)
    if (entries > header.entries) await this.#order.run(() => this.#growTable(entries))
    this.image.size = after.size
    const stored = { size: footer.currentSize, geometry: footer.geometry, original: footer.originalSize }
    try {
      await clearGained(this, { from: before.size, unit: header.blockSize, shown: 0 })
      await this.flush()
      setSize(footer, after)
      await this.#order.run(() => this.#writeFooters())
    } catch (error) {
      setSize(footer, stored)
      this.image.size = before.size
      throw error
    }
  }

  async #growTable(entries: number): Promise<void> {
    const { image, store } = this
    await this.#writeBack()
    const { end, blocks } = await planTable(image, entries)
    const first = await image.firstFree()
    const start = Math.max(first, end)
    const after = start + blocks.length * image.stride
    if (this.kind === 'device' && after + footerBytes > store.size) {
      throw this.fault('io', 'No space left on device', { offset: start, code: 'ENOSPC' })
    }
    // Without a block in the way the footer may be.
    this.#footerMoved = blocks.length > 0 || first < end
    this.#end = after
    for (const [i, { block, sector }] of blocks.entries()) {
      const to = start + i * image.stride
      await copyAside(store, sector * sectorBytes, to, image.stride)
      await image.table.set(block, to / sectorBytes)
    }
    await this.#writeBack()
    image.clear()
    await lengthenTable(image, entries, store)
  }

  /** Either footer makes an image: first the one that counts, then the other. */
  async #writeFooters(): Promise<void> {
    const { footer } = this.image
    this.#end ??= await this.image.firstFree()
    await this.store.write(0, footer.bytes.slice())
    await this.store.flush()
    await this.store.write(this.#end, footer.bytes.slice())
    await this.store.flush()
  }

  flush(): Promise<void> {
    return this.#order.run(() => this.#writeBack())
  }

  async #writeBack(): Promise<void> {
    const { table, footer } = this.image
    await this.store.flush()
    if (!table.dirty && !this.#footerMoved && this.image.changedBitmaps === 0) return
    await this.image.writeBitmaps(this.store)
    if (this.#footerMoved && this.#end !== undefined) {
      await this.store.write(this.#end, footer.bytes)
      this.#footerMoved = false
    }
    await this.store.flush()
    if (!table.dirty) return
    await table.writeBack(this.store)
    await this.store.flush()
  }

  /** Runs `work` on an image all of whose changes are in the file, while nothing else happens. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#order.run(async () => {
      await this.#writeBack()
      try {
        return await work()
      } finally {
        this.image.clear()
        this.#end = undefined
      }
    })
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.flush()
    } finally {
      await super.close()
    }
  }
}
