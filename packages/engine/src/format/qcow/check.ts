/** Checking a qcow image, and repairing it. QEMU has no check for this format; the findings are told in the manner of those it has. */
import { roundUp, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, type Disk, readPadded, throwIfCancelled } from '../../core/index.ts'
import { placeOf } from '../entry-tables.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { QcowDisk, type QcowImage } from './disk.ts'
import { endOfNames, packedFlag, packedSpan, qcowFault } from './layout.ts'
import { WritableQcowDisk } from './writable-disk.ts'

const sector = 512
/** Most findings that are told one by one. */
const mostTold = 1000

/** Checks a disk opened with purpose `check`: every table and cluster lies in the file, none over another. There are no counts that could leak.
 *  A repair (`all`) empties entries that point nowhere, and gives a cluster that lies over something a copy of its own.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written. */
export async function checkQcow(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof QcowDisk)) throw qcowFault(disk.name, 'invalid', 'not an opened qcow image', {})
  if (disk instanceof WritableQcowDisk) return disk.alone(() => new QcowCheck(disk.image, options, disk.store).run())
  if (options.repair !== 'none') {
    throw qcowFault(disk.name, 'denied', 'the image is open for reading only', { field: 'repair' })
  }
  return new QcowCheck(disk.image, options, undefined).run()
}

/** A wrong entry: byte offset in the file, and what it pointed at when that can be copied. */
interface Wrong {
  entry: number
  from: number | undefined
}

class QcowCheck {
  readonly #image: QcowImage
  readonly #options: CheckOptions
  readonly #store: ByteStore | undefined
  /** A bit for each sector of the file within the window. */
  #used = new Uint8Array(0)
  #window = { from: 0, to: 0 }
  /** By the entry's place. */
  readonly #wrong = new Map<number, Wrong>()
  readonly #result = { total: 0, allocated: 0, packed: 0, fragmented: 0, end: 0 }
  #corruptions = 0
  #fixed = 0

  constructor(image: QcowImage, options: CheckOptions, store: ByteStore | undefined) {
    this.#image = image
    this.#options = options
    this.#store = options.repair === 'all' ? store : undefined
  }

  async run(): Promise<CheckResult> {
    const { geometry, context, file } = this.#image
    const result = this.#result
    result.total = Math.ceil(geometry.virtualSize / geometry.clusterSize)
    // A file too large for one table of bits is looked at in several windows.
    const windowBytes = context.limits.checkBytes * 8 * sector
    for (let from = 0; from === 0 || from < file.size; from += windowBytes) {
      this.#window = { from, to: Math.min(from + windowBytes, roundUp(file.size, sector)) }
      this.#used = new Uint8Array(Math.ceil((this.#window.to - from) / sector / 8))
      await this.#walk(from === 0)
    }
    if (this.#store !== undefined && this.#wrong.size > 0) await this.#repair(this.#store)
    this.#options.onProgress?.({ done: geometry.virtualSize, total: geometry.virtualSize })
    return {
      checkErrors: 0,
      leaks: 0,
      leaksFixed: 0,
      corruptions: this.#corruptions - this.#fixed,
      corruptionsFixed: this.#fixed,
      imageEndOffset: result.end,
      totalClusters: result.total,
      allocatedClusters: result.allocated,
      fragmentedClusters: result.fragmented,
      compressedClusters: result.packed,
    }
  }

  async #walk(first: boolean): Promise<void> {
    const { header, geometry, file } = this.#image
    this.#mark(0, endOfNames(header))
    this.#mark(header.l1Offset, header.l1Offset + geometry.l1Entries * 8)
    this.#reach(header.l1Offset + geometry.l1Entries * 8)
    const tables: { table: number; index: number }[] = []
    // Past the end of the file there are zeros.
    const there = Math.min(geometry.l1Entries, Math.ceil(Math.max(0, file.size - header.l1Offset) / 8))
    await this.#entries('l1', header.l1Offset, there, (upper, lower, entry, index) => {
      const table = upper * 2 ** 32 + lower
      if (table === 0) return
      if (table >= file.size) this.#tell(first, entry, undefined, `L2 table ${index} is outside image`)
      else if (!this.#mark(table, table + geometry.l2Bytes)) {
        this.#tell(first || this.#holds(table), entry, undefined, `L2 table ${index} lies over other metadata`)
      } else if (!this.#wrong.has(entry)) {
        this.#reach(table + geometry.l2Bytes)
        tables.push({ table, index })
      }
    })
    let before = -1
    for (const { table, index } of tables) {
      throwIfCancelled(this.#options.signal, file.name)
      await this.#entries('l2', table, geometry.l2Entries, (upper, lower, entry, at) => {
        if (upper === 0 && lower === 0) return
        const cluster = index * geometry.l2Entries + at
        before = this.#checkCluster(first, upper, lower, entry, cluster, before)
      })
      this.#options.onProgress?.({
        done: Math.min(index * geometry.l2Cover, geometry.virtualSize),
        total: geometry.virtualSize,
      })
    }
  }

  #checkCluster(first: boolean, upper: number, lower: number, entry: number, cluster: number, before: number): number {
    const { header, geometry, file } = this.#image
    const packed = upper >= packedFlag
    const { offset: host, length } = packed
      ? packedSpan(upper, lower, header.clusterBits)
      : { offset: upper * 2 ** 32 + lower, length: geometry.clusterSize }
    if (host >= file.size || (!packed && host % sector !== 0)) {
      const what = host >= file.size ? 'is outside image' : 'is unaligned'
      this.#tell(first, entry, undefined, `cluster ${cluster} ${what}`)
      return -1
    }
    if (first) {
      this.#result.allocated++
      if (packed) this.#result.packed++
      else if (before >= 0 && host !== before + geometry.clusterSize) this.#result.fragmented++
      this.#reach(host + length)
    }
    // Packed clusters may share sectors.
    if (!packed && !this.#mark(host, host + length)) {
      this.#tell(this.#holds(host), entry, host, `cluster ${cluster} lies over something else`)
    }
    return packed ? -1 : host
  }

  /** Marks sectors as used, as far as they lie in the window; false when one was already. */
  #mark(from: number, to: number): boolean {
    const start = Math.floor((Math.max(from, this.#window.from) - this.#window.from) / sector)
    const end = Math.ceil((Math.min(to, this.#window.to) - this.#window.from) / sector)
    let free = true
    for (let at = start; at < end; at++) {
      const byte = this.#used[at >>> 3] as number
      const bit = 1 << (at & 7)
      if ((byte & bit) !== 0) free = false
      this.#used[at >>> 3] = byte | bit
    }
    return free
  }

  #holds(offset: number): boolean {
    return offset >= this.#window.from && offset < this.#window.to
  }

  #reach(end: number): void {
    this.#result.end = Math.max(this.#result.end, end)
  }

  #tell(counts: boolean, entry: number, from: number | undefined, what: string): void {
    if (!counts || this.#wrong.has(entry)) return
    this.#wrong.set(entry, { entry, from })
    this.#corruptions++
    const verb = this.#store === undefined ? 'ERROR' : 'Repairing'
    if (this.#corruptions <= mostTold) this.#options.report(`${verb} ${what}`, 'error')
    else if (this.#corruptions === mostTold + 1) {
      this.#options.report('More errors follow; they are counted, not told.', 'error')
    }
  }

  async #entries(
    kind: 'l1' | 'l2',
    table: number,
    count: number,
    look: (upper: number, lower: number, entry: number, index: number) => void,
  ): Promise<void> {
    for (let index = 0; index < count; ) {
      const { page, bytes } = placeOf(kind, table, count, index)
      const view = viewOf(await this.#image.tables.read(page, bytes))
      for (let at = 0; at < bytes; at += 8) look(view.getUint32(at), view.getUint32(at + 4), page + at, index++)
    }
  }

  /** Empties entries first: those that lead behind the file would show what is copied there, were the power to fail between. Then copies, then points at the copies. */
  async #repair(store: ByteStore): Promise<void> {
    const { geometry, tables } = this.#image
    let end = roundUp(store.size, geometry.clusterSize)
    const entries: { entry: number; value: number }[] = []
    for (const { entry, from } of this.#wrong.values()) if (from === undefined) await this.#setEntry(store, entry, 0)
    await store.flush()
    for (const { entry, from } of this.#wrong.values()) {
      if (from !== undefined) {
        const bytes = new Uint8Array(geometry.clusterSize)
        await readPadded(store, from, bytes)
        await store.write(end, bytes)
        entries.push({ entry, value: end })
        end += geometry.clusterSize
      }
    }
    await store.flush()
    tables.clear()
    for (const { entry, value } of entries) await this.#setEntry(store, entry, value)
    await store.flush()
    this.#fixed = this.#corruptions
  }

  async #setEntry(store: ByteStore, entry: number, value: number): Promise<void> {
    const bytes = new Uint8Array(8)
    viewOf(bytes).setBigUint64(0, BigInt(value))
    await store.write(entry, bytes)
  }
}
