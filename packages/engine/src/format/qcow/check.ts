/** Checking a qcow image, and repairing it. QEMU has no check for this format; the findings are told in the manner of those it has. */
import { roundUp, setU64be, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, type Disk, readPadded, throwIfCancelled } from '../../core/index.ts'
import { placeOf } from '../entry-tables.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { BlockCopier, mostCopies } from '../growth.ts'
import { QcowDisk, type QcowImage } from './disk.ts'
import { endOfNames, packedFlag, packedSpan, qcowFault } from './layout.ts'
import { WritableQcowDisk } from './writable-disk.ts'

const sector = 512
/** Most findings that are told one by one. */
const mostTold = 1000

/** Checks a disk opened with purpose `check`: every table and cluster lies in the file, none over another. There are no counts that could leak.
 *  A repair (`all`) empties entries that point nowhere, and gives a cluster that lies over something a copy of its own.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `limit` when there is too much to copy. */
export async function checkQcow(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof QcowDisk)) throw qcowFault(disk.name, 'invalid', 'not an opened qcow image', {})
  if (disk instanceof WritableQcowDisk) return disk.alone(() => new QcowCheck(disk.image, options, disk.store).run())
  if (options.repair !== 'none') {
    throw qcowFault(disk.name, 'denied', 'the image is open for reading only', { field: 'repair' })
  }
  return new QcowCheck(disk.image, options, undefined).run()
}

/** What takes the place of an entry; undefined where it stays. */
type Instead = number | undefined | Promise<number | undefined>

class QcowCheck {
  readonly #image: QcowImage
  readonly #options: CheckOptions
  readonly #store: ByteStore | undefined
  /** A bit for each sector of the file within the window. */
  readonly #used: Uint8Array
  #window = { from: 0, to: 0 }
  /** A bit for each L1 entry whose table is none; made with the first. */
  #badTables: Uint8Array | undefined
  /** What parts of tables are read into. */
  readonly #parts = { l1: new Uint8Array(0), l2: new Uint8Array(0) }
  /** Bytes of the file before a repair makes it longer. */
  readonly #fileSize: number
  readonly #result = { total: 0, allocated: 0, packed: 0, fragmented: 0, end: 0 }
  #corruptions = 0
  /** Of them, clusters that lie over something. */
  #shared = 0
  /** Set while these get copies: nothing is told or counted then. */
  #copier: BlockCopier | undefined
  #copied = 0

  constructor(image: QcowImage, options: CheckOptions, store: ByteStore | undefined) {
    const { file, context } = image
    this.#image = image
    this.#options = options
    this.#store = options.repair === 'all' ? store : undefined
    this.#fileSize = file.size
    this.#used = new Uint8Array(Math.min(context.limits.checkBytes, Math.ceil(file.size / sector / 8)))
  }

  async run(): Promise<CheckResult> {
    const { geometry, tables } = this.#image
    const result = this.#result
    result.total = Math.ceil(geometry.virtualSize / geometry.clusterSize)
    await this.#walkAll()
    if (this.#store !== undefined && this.#corruptions > 0) {
      // Entries that lead behind the file are empty before it grows: they would show what is copied there, were the power to fail between.
      await this.#store.flush()
      if (this.#shared > 0) {
        this.#copier = new BlockCopier(this.#store)
        await this.#walkAll()
        await this.#store.flush()
      }
      tables.clear()
    }
    this.#options.onProgress?.({ done: geometry.virtualSize, total: geometry.virtualSize })
    return {
      checkErrors: 0,
      leaks: 0,
      leaksFixed: 0,
      corruptions: this.#store === undefined ? this.#corruptions : 0,
      corruptionsFixed: this.#store === undefined ? 0 : this.#corruptions,
      imageEndOffset: result.end,
      totalClusters: result.total,
      allocatedClusters: result.allocated,
      fragmentedClusters: result.fragmented,
      compressedClusters: result.packed,
    }
  }

  /** A file too large for one table of bits is looked at in several windows. */
  async #walkAll(): Promise<void> {
    const windowBytes = this.#image.context.limits.checkBytes * 8 * sector
    for (let from = 0; from === 0 || from < this.#fileSize; from += windowBytes) {
      this.#window = { from, to: Math.min(from + windowBytes, roundUp(this.#fileSize, sector)) }
      this.#used.fill(0)
      await this.#walk(from === 0 && this.#copier === undefined)
    }
  }

  /** `first`: the clusters were not looked at before. */
  async #walk(first: boolean): Promise<void> {
    const { header, geometry, file } = this.#image
    this.#mark(0, endOfNames(header))
    this.#mark(header.l1Offset, header.l1Offset + geometry.l1Entries * 8)
    this.#reach(header.l1Offset + geometry.l1Entries * 8)
    // All tables before any cluster: where the two lie over each other, the cluster is wrong.
    await this.#tables((table, index) => this.#checkTable(table, index))
    let before = -1
    await this.#tables(async (table, index) => {
      throwIfCancelled(this.#options.signal, file.name)
      await this.#entries('l2', table, geometry.l2Entries, (upper, lower, at) => {
        const cluster = index * geometry.l2Entries + at
        const { instead, host } = this.#checkCluster(first, upper, lower, cluster, before)
        before = host
        return instead
      })
      this.#options.onProgress?.({
        done: Math.min(index * geometry.l2Cover, geometry.virtualSize),
        total: geometry.virtualSize,
      })
      return undefined
    })
  }

  /** Looks at all L2 tables that were not found to be none. */
  async #tables(look: (table: number, index: number) => Instead): Promise<void> {
    const { header, geometry } = this.#image
    // Past the end of the file there are zeros.
    const there = Math.min(geometry.l1Entries, Math.ceil(Math.max(0, this.#fileSize - header.l1Offset) / 8))
    await this.#entries('l1', header.l1Offset, there, (upper, lower, index) => {
      const isBad = ((this.#badTables?.[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
      return isBad ? undefined : look(upper * 2 ** 32 + lower, index)
    })
  }

  #checkTable(table: number, index: number): 0 | undefined {
    const { l2Bytes, l1Entries } = this.#image.geometry
    const isOutside = table >= this.#fileSize
    if (!isOutside && this.#mark(table, table + l2Bytes)) {
      this.#reach(table + l2Bytes)
      return undefined
    }
    this.#badTables ??= new Uint8Array(Math.ceil(l1Entries / 8))
    this.#badTables[index >>> 3] = (this.#badTables[index >>> 3] as number) | (1 << (index & 7))
    return this.#wrong(`L2 table ${index} ${isOutside ? 'is outside image' : 'lies over other metadata'}`)
  }

  /** Returns what takes the place of the entry, and where the cluster lies, −1 for a packed one and for none. */
  #checkCluster(
    first: boolean,
    upper: number,
    lower: number,
    cluster: number,
    before: number,
  ): { instead: Instead; host: number } {
    const { header, geometry } = this.#image
    const packed = upper >= packedFlag
    const { offset: host, length } = packed
      ? packedSpan(upper, lower, header.clusterBits)
      : { offset: upper * 2 ** 32 + lower, length: geometry.clusterSize }
    if (host >= this.#fileSize || (!packed && host % sector !== 0)) {
      const what = host >= this.#fileSize ? 'is outside image' : 'is unaligned'
      // Later there are copies outside of what the image was.
      return { instead: first ? this.#wrong(`cluster ${cluster} ${what}`) : undefined, host: -1 }
    }
    if (first) {
      this.#result.allocated++
      if (packed) this.#result.packed++
      else if (before >= 0 && host !== before + geometry.clusterSize) this.#result.fragmented++
      this.#reach(host + length)
    }
    // Packed clusters may share sectors.
    if (packed) return { instead: undefined, host: -1 }
    const isFree = this.#mark(host, host + length)
    if (isFree || host < this.#window.from || host >= this.#window.to) return { instead: undefined, host }
    if (this.#copier !== undefined) return { instead: this.#copy(this.#copier, host), host }
    this.#shared++
    this.#wrong(`cluster ${cluster} lies over something else`)
    return { instead: undefined, host }
  }

  /** Gives a cluster a second place, behind everything else.
   *  @throws MoraineError `limit` when copies take more room than all that there is. */
  async #copy(copier: BlockCopier, host: number): Promise<number> {
    const { clusterSize } = this.#image.geometry
    const most = mostCopies(this.#fileSize)
    const to = roundUp(this.#fileSize, clusterSize) + this.#copied
    this.#copied += clusterSize
    if (this.#copied > most) {
      const place = { field: 'copies', value: this.#copied, rule: `at most ${most} bytes` }
      throw qcowFault(this.#image.file.name, 'limit', 'too many clusters lie over others', place)
    }
    await copier.copy(host, to, clusterSize)
    return to
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

  #reach(end: number): void {
    this.#result.end = Math.max(this.#result.end, end)
  }

  /** Counts and tells a corruption. Returns the empty entry that takes its place. */
  #wrong(what: string): 0 {
    this.#corruptions++
    const verb = this.#store === undefined ? 'ERROR' : 'Repairing'
    if (this.#corruptions <= mostTold) this.#options.report(`${verb} ${what}`, 'error')
    else if (this.#corruptions === mostTold + 1) {
      this.#options.report('More errors follow; they are counted, not told.', 'error')
    }
    return 0
  }

  /** Looks at all entries of a table that are not empty. What `look` gives back is written in their place, when what that points at has reached the disk. */
  async #entries(
    kind: 'l1' | 'l2',
    table: number,
    count: number,
    look: (upper: number, lower: number, index: number) => Instead,
  ): Promise<void> {
    for (let index = 0; index < count; ) {
      const { page, bytes: length } = placeOf(kind, table, count, index)
      if (this.#parts[kind].length < length) this.#parts[kind] = new Uint8Array(length)
      const bytes = this.#parts[kind].subarray(0, length)
      await readPadded(this.#image.file, page, bytes, this.#options.signal)
      const view = viewOf(bytes)
      let from = length
      let to = 0
      for (let at = 0; at < length; at += 8, index++) {
        const upper = view.getUint32(at)
        const lower = view.getUint32(at + 4)
        if (upper === 0 && lower === 0) continue
        const found = look(upper, lower, index)
        const instead = found instanceof Promise ? await found : found
        if (instead === undefined || this.#store === undefined) continue
        setU64be(view, at, instead)
        from = Math.min(from, at)
        to = at + 8
      }
      if (this.#store === undefined || to === 0) continue
      if (this.#copied > 0) await this.#store.flush()
      await this.#store.write(page + from, bytes.subarray(from, to))
    }
  }
}
