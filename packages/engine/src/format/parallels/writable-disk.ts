/** Writing a Parallels image: guest bytes, zeros, discards. New clusters go behind the last one; the table points at them when they have reached the disk.
 *  While it is written, the header says that the image is open. */
import { roundUp } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import {
  type ByteStore,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import { GatheredWrites } from '../gathered-writes.ts'
import { checkSizeChange, clearGained } from '../growth.ts'
import type { MappedRun } from '../mapped-disk.ts'
import { ParallelsDisk, type ParallelsImage } from './disk.ts'
import { BitmapKeeper, bitClusters } from './extension.ts'
import { growTable } from './growth.ts'
import { encodeHeader, headerBytes, inUse, mostEntries, setGeometry } from './layout.ts'

/** A Parallels image opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableParallelsDisk extends ParallelsDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  /** Whether this opening has changed anything. */
  #modified = false
  /** What the header shall say when the image is closed. */
  #closedAs = 0
  readonly #order = new Mutex()
  readonly #keeper: BitmapKeeper | undefined
  /** Where the next cluster goes. */
  #dataEnd: number | undefined
  #closed = false
  /** They are followed, not shown: until the image is closed the file says that everything is dirty. */
  override readonly bitmaps = undefined

  constructor(image: ParallelsImage, store: ByteStore) {
    super(image)
    this.store = store
    this.kind = store.kind
    const { extension, header } = image
    if (extension !== undefined) this.#keeper = new BitmapKeeper(store, header, extension)
  }

  protected override get fileEnd(): number {
    return Math.max(this.store.size, this.#dataEnd ?? 0)
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    try {
      const run = this.#modified ? this.resolve(offset, from.length) : undefined
      if (run instanceof Promise)
        run.catch(() => {}) // It is asked for again below.
      else if (run?.kind === 'data' && run.length === from.length) {
        this.#keeper?.note(offset, from.length)
        return this.store.write(run.host, from, signal)
      }
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#write(offset, from, signal)
  }

  async #write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const writes = new GatheredWrites(this.store, offset, from, signal)
    try {
      await this.#order.run(async () => {
        throwIfCancelled(signal, this.name)
        await this.#modify()
        this.#keeper?.note(offset, from.length)
        for (let at = offset; at < offset + from.length; ) {
          let run = await this.resolve(at, offset + from.length - at)
          if (run.kind !== 'data') {
            const { clusterSize } = this.image.header
            const length = Math.min(run.length, clusterSize - (at % clusterSize))
            const host = (await this.#allocate(Math.floor(at / clusterSize))) + (at % clusterSize)
            run = { kind: 'data', host, length }
          }
          writes.add(at, run.length, run.host)
          at += run.length
        }
        writes.send()
      })
    } finally {
      await writes.settle()
    }
  }

  /** Gives a cluster a place that reads as zeros, and points the table at it. What is lost if the bytes never come are zeros. */
  async #allocate(cluster: number): Promise<number> {
    const { header, table } = this.image
    if (cluster >= header.entries) {
      throw this.fault('corrupt', 'the table of clusters is shorter than the disk', {
        field: 'bat_entries',
        value: header.entries,
        rule: `more than ${cluster}`,
      })
    }
    const host = await this.#take()
    await table.set(cluster, host / header.entryUnit)
    if (table.crowded) await this.#writeBack()
    return host
  }

  /** Takes a cluster of the file, which reads as zeros, not before `least`. Returns its byte offset. */
  async #take(least = 0): Promise<number> {
    const { header } = this.image
    this.#dataEnd ??= await this.#findEnd()
    const host = Math.max(this.#dataEnd, least)
    const end = host + header.clusterSize
    if (host / header.entryUnit > 0xffff_ffff) {
      throw this.fault('limit', 'the image has no room for another cluster', {
        field: 'BAT entry',
        value: host / header.entryUnit,
        rule: 'at most 2^32 − 1',
      })
    }
    if (this.kind === 'device') {
      if (end > this.store.size) throw this.fault('io', 'No space left on device', { offset: host, code: 'ENOSPC' })
      await this.store.zero(host, end - host, 'unmap')
    } else if (host < this.store.size) {
      // Left behind by a power cut before the table was written, or leaked by another writer.
      await this.store.zero(host, Math.min(end, this.store.size) - host, 'unmap')
    }
    this.#dataEnd = end
    return host
  }

  /** Byte offset behind everything in use: clusters, the format extension, its bitmaps. */
  async #findEnd(): Promise<number> {
    const { header, table, extension } = this.image
    let most = 0
    for await (const { entries } of table.all()) for (const entry of entries) if (entry > most) most = entry
    const used = most === 0 ? 0 : most * header.entryUnit + header.clusterSize
    const others = extension === undefined ? [] : [extension.offset, ...bitClusters(extension)]
    const end = Math.max(header.dataOffset, used, ...others.map((at) => at + header.clusterSize))
    if (!(end <= roundUp(this.store.size, header.clusterSize) + header.clusterSize)) {
      throw this.fault('corrupt', 'a cluster lies outside the image', {
        field: 'BAT entry',
        value: most,
        hint: 'check -r all drops such clusters',
      })
    }
    return roundUp(Math.max(end, headerBytes + header.entries * 4), header.entryUnit)
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    return this.#eachRun(offset, length, signal, async (at, run) => {
      if (run.kind === 'data') return this.store.zero(run.host, run.length, mode, signal)
      if (mode === 'unmap') return undefined
      const { clusterSize } = this.image.header
      for (let done = 0; done < run.length; ) {
        const skip = (at + done) % clusterSize
        const part = Math.min(run.length - done, clusterSize - skip)
        const host = await this.#allocate(Math.floor((at + done) / clusterSize))
        await this.store.zero(host + skip, part, 'allocate')
        done += part
      }
    })
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#eachRun(offset, length, undefined, async (_at, run) => {
      const there = Math.min(run.length, this.store.size - run.host)
      if (run.kind === 'data' && there > 0) await this.store.discard(run.host, there)
    })
  }

  async #eachRun(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    work: (at: number, run: MappedRun) => Promise<void>,
  ): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (length === 0) return
    await this.#order.run(async () => {
      await this.#modify()
      this.#keeper?.note(offset, length)
      for (let at = offset; at < offset + length; ) {
        throwIfCancelled(signal, this.name)
        const run = await this.resolve(at, offset + length - at)
        await work(at, run)
        at += run.length
      }
    })
  }

  /** Grows the disk; a table that has no room lets the first clusters move to the end of the file.
   *  @throws MoraineError as `checkSizeChange`; `unsupported` for an image with bitmaps, which say how large the disk is. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { header, extension, context } = this.image
    const { clusterSize } = header
    checkSizeChange(
      this,
      { size, preallocation, shrink },
      {
        unit: 512,
        most: Math.min(mostEntries * clusterSize, header.extended ? Number.MAX_SAFE_INTEGER : 0xffff_ffff * 512),
        limit: context.limits.virtualSize,
        growsOnly: 'the format has no list of free clusters',
      },
    )
    const before = header.diskSize
    if (size === before) return
    if (extension !== undefined) {
      throw this.fault('unsupported', 'an image with dirty bitmaps cannot be resized', {
        field: 'format extension',
        hint: 'convert it, which leaves them behind',
      })
    }
    await this.#order.run(async () => {
      await this.#modify()
      const tools = { take: (least: number) => this.#take(least), writeBack: () => this.#writeBack() }
      await growTable(this, Math.ceil(size / clusterSize), tools)
    })
    this.size = size
    try {
      await clearGained(this, { from: before, unit: clusterSize, shown: 0 })
      await this.flush()
      header.diskSize = size
      setGeometry(header.bytes, size)
      await this.#order.run(() => this.#sayInUse(inUse.open))
      await this.flush()
    } catch (error) {
      this.size = before
      header.diskSize = before
      setGeometry(header.bytes, before)
      throw error
    }
  }

  /** Says in the file that the image is open, and that its bitmaps cannot know what changes, before anything does. */
  async #modify(): Promise<void> {
    if (this.#modified) return
    const { header } = this.image
    if (header.inUse !== inUse.open) this.#closedAs = header.inUse
    await this.#sayInUse(inUse.open)
    await this.#keeper?.begin()
    await this.store.flush()
    this.#modified = true
  }

  async #sayInUse(value: number): Promise<void> {
    this.image.header.inUse = value
    await this.store.write(0, encodeHeader(this.image.header).slice())
  }

  flush(): Promise<void> {
    return this.#order.run(() => this.#writeBack())
  }

  async #writeBack(): Promise<void> {
    const { table } = this.image
    if (this.#dataEnd !== undefined && this.kind !== 'device' && this.store.size < this.#dataEnd) {
      await this.store.resize(this.#dataEnd)
    }
    await this.store.flush()
    if (!table.dirty) return
    await table.writeBack(this.store)
    await this.store.flush()
  }

  /** Writes everything, and says that the image is closed. */
  async #finish(): Promise<void> {
    await this.#writeBack()
    if (!this.#modified) return
    await this.#keeper?.end(() => this.#take())
    await this.#writeBack()
    // As QEMU does: what lies behind the last cluster is nobody's.
    if (this.#dataEnd !== undefined && this.kind !== 'device' && this.store.size > this.#dataEnd) {
      await this.store.resize(this.#dataEnd)
    }
    await this.#sayInUse(this.#closedAs)
    await this.store.flush()
    this.#modified = false
  }

  /** Runs `work` on an image all of whose changes are in the file, while nothing else happens. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#order.run(async () => {
      await this.#finish()
      try {
        return await work()
      } finally {
        this.#dataEnd = undefined
      }
    })
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.#order.run(() => this.#finish())
    } finally {
      await super.close()
    }
  }
}
