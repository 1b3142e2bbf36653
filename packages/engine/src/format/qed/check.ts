/** Checking a QED image, and repairing it. What is counted: QEMU 7.2's `qemu-img check`, which says nothing of single findings. */
import { roundDown, setU64le, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, type Disk, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { mostCopies } from '../growth.ts'
import { entryAt, QedDisk, type QedImage, zeroEntry } from './disk.ts'
import { encodeHeader, feature, qedFault } from './layout.ts'
import { WritableQedDisk } from './writable-disk.ts'

/** Most findings that are told one by one. */
const mostTold = 1000
/** Bytes of a table that are looked at together. */
const partBytes = 64 * 1024

/** Checks a disk opened with purpose `check`: every table and cluster lies in the file and is used once. Clusters that nothing points at are leaks.
 *  A repair empties entries that point nowhere, gives what is used twice a copy of its own, cuts off leaks at the end of the file (others stay: the
 *  format has no list of free clusters) and says that the image is closed.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `limit` when there is too much to check. */
export async function checkQed(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof QedDisk)) throw qedFault(disk.name, 'invalid', 'not an opened QED image', {})
  if (disk instanceof WritableQedDisk) return disk.alone(() => new QedCheck(disk.image, options, disk.store).run())
  if (options.repair !== 'none') {
    throw qedFault(disk.name, 'denied', 'the image is open for reading only', { field: 'repair' })
  }
  return new QedCheck(disk.image, options, undefined).run()
}

/** Repairs an image that was not closed, before it is written.
 *  @throws MoraineError as `checkQed`. */
export async function repairUnclosed(image: QedImage, store: ByteStore): Promise<void> {
  await new QedCheck(image, { repair: 'all', report: () => {} }, store, false).run()
}

class QedCheck {
  readonly #image: QedImage
  readonly #options: CheckOptions
  /** Set where there is to be a repair. */
  readonly #store: ByteStore | undefined
  readonly #cuts: boolean
  readonly #used: Uint8Array
  /** Bytes of the file, in whole clusters. */
  readonly #fileEnd: number
  #told = 0
  #corruptions = 0
  #allocated = 0
  #fragmented = 0
  /** Where the last thing that is used ends. */
  #end = 0
  /** Bytes of copies, which lie behind everything else. */
  #copied = 0
  /** Whether something that is used twice waits for its copy: the first walk of a repair only empties entries. */
  #awaitsCopies = false
  #makesCopies = false

  /** `cuts`: leaks at the end of the file are cut off, too.
   *  @throws MoraineError `limit` when the file has more clusters than the caller gives memory for. */
  constructor(image: QedImage, options: CheckOptions, store: ByteStore | undefined, cuts = true) {
    const { file, header, context } = image
    this.#image = image
    this.#options = options
    this.#store = options.repair === 'none' ? undefined : store
    this.#cuts = cuts && store?.kind !== 'device'
    this.#fileEnd = roundDown(file.size, header.clusterSize)
    const bytes = Math.ceil(this.#fileEnd / header.clusterSize / 8)
    if (bytes > context.limits.checkBytes) {
      const rule = `at most ${context.limits.checkBytes * 8 * header.clusterSize}`
      const place = { field: 'file size', value: file.size, rule }
      throw qedFault(file.name, 'limit', 'the image is too large to check', place)
    }
    this.#used = new Uint8Array(bytes)
  }

  async run(): Promise<CheckResult> {
    const { header, geometry, file } = this.#image
    const { clusterSize } = header
    await this.#walk()
    if (this.#awaitsCopies) {
      // Entries that lead behind the file are empty before it grows: they would show what comes to lie there, were the power to fail between.
      await this.#store?.flush()
      this.#used.fill(0)
      this.#end = 0
      this.#allocated = 0
      this.#fragmented = 0
      this.#makesCopies = true
      await this.#walk()
    }
    const found = this.#corruptions
    if (this.#store !== undefined) {
      await this.#store.flush()
      this.#image.tables.clear()
    }
    const leaks = this.#countLeaks(geometry.headerEnd / clusterSize, this.#fileEnd / clusterSize)
    let cut = 0
    if (this.#store !== undefined && this.#cuts && this.#copied === 0 && this.#end < this.#fileEnd) {
      cut = (this.#fileEnd - this.#end) / clusterSize
      await this.#store.resize(this.#end)
      await this.#store.flush()
    }
    if (this.#store !== undefined) await this.#markClosed(this.#store)
    this.#options.onProgress?.({ done: header.imageSize, total: header.imageSize })
    if (leaks > 0) this.#tell(`${leaks} clusters of ${file.name} are not in use`, cut > 0 ? 'Repairing' : 'Leaked:')
    return {
      checkErrors: 0,
      leaks: leaks - cut,
      leaksFixed: cut,
      corruptions: this.#store === undefined ? found : 0,
      corruptionsFixed: this.#store === undefined ? 0 : found,
      totalClusters: Math.ceil(header.imageSize / clusterSize),
      allocatedClusters: this.#allocated,
      fragmentedClusters: this.#fragmented,
      compressedClusters: 0,
    }
  }

  async #walk(): Promise<void> {
    const { header, geometry, places, file } = this.#image
    this.#mark(header.l1Offset, geometry.tableBytes)
    await this.#entries(header.l1Offset, async (table, index) => {
      throwIfCancelled(this.#options.signal, file.name)
      const done = Math.min((index + 1) * geometry.l2Cover, header.imageSize)
      this.#options.onProgress?.({ done, total: header.imageSize })
      if (!places.holdsTable(table, this.#fileEnd)) return this.#wrong(`L2 table ${index} is outside image`)
      const conflicts = this.#mark(table, geometry.tableBytes)
      if (conflicts === 0) {
        await this.#checkTable(table, index)
        return undefined
      }
      if (this.#postpones()) return undefined
      this.#wrong(`L2 table ${index} lies over something else`)
      // As in QEMU every cluster of it counts, and nothing that it points at.
      this.#corruptions += conflicts - 1
      const copy = await this.#copy(table, geometry.tableBytes)
      if (copy !== undefined) await this.#checkTable(copy, index)
      return copy
    })
  }

  async #checkTable(table: number, tableIndex: number): Promise<void> {
    const { header, geometry, places } = this.#image
    const { clusterSize } = header
    let before = 0
    await this.#entries(table, (host, index) => {
      if (host === zeroEntry) return undefined
      this.#allocated++
      if (before !== 0 && before + clusterSize !== host) this.#fragmented++
      before = host
      const cluster = tableIndex * geometry.entries + index
      if (!places.holdsCluster(host, this.#fileEnd)) return this.#wrong(`cluster ${cluster} is outside image`)
      if (this.#mark(host, clusterSize) === 0 || this.#postpones()) return undefined
      this.#wrong(`cluster ${cluster} lies over something else`)
      return this.#copy(host, clusterSize)
    })
  }

  /** Whether a copy must wait, as entries are still being emptied. */
  #postpones(): boolean {
    if (this.#store === undefined || this.#makesCopies) return false
    this.#awaitsCopies = true
    return true
  }

  /** Looks at all entries that are not empty. What `look` gives back is written in their place, when what that points at has reached the disk. */
  async #entries(
    table: number,
    look: (value: number, index: number) => Promise<number | undefined> | number | undefined,
  ): Promise<void> {
    const { geometry, file } = this.#image
    const store = this.#store
    for (let part = 0; part < geometry.tableBytes; part += partBytes) {
      const bytes = new Uint8Array(Math.min(partBytes, geometry.tableBytes - part))
      await file.read(table + part, bytes, this.#options.signal)
      const view = viewOf(bytes)
      let changed = false
      for (let at = 0; at < bytes.length; at += 8) {
        const value = entryAt(view, at)
        if (value === 0) continue
        const found = look(value, (part + at) / 8)
        const instead = found instanceof Promise ? await found : found
        if (instead === undefined || store === undefined) continue
        setU64le(view, at, instead)
        changed = true
      }
      if (store === undefined || !changed) continue
      await store.flush()
      await store.write(table + part, bytes)
    }
  }

  /** Gives something that is used twice a second place behind everything else; undefined where nothing is repaired.
   *  @throws MoraineError `limit` when copies take more room than all that there is. */
  async #copy(from: number, length: number): Promise<number | undefined> {
    const store = this.#store
    if (store === undefined) return undefined
    const most = mostCopies(this.#fileEnd)
    if (this.#copied + length > most) {
      const place = { field: 'copies', value: this.#copied + length, rule: `at most ${most} bytes` }
      throw qedFault(store.name, 'limit', 'too much of the image is used twice', place)
    }
    const to = this.#fileEnd + this.#copied
    for (let at = 0; at < length; at += partBytes) {
      const bytes = new Uint8Array(Math.min(partBytes, length - at))
      await store.read(from + at, bytes)
      await store.write(to + at, bytes)
    }
    this.#copied += length
    return to
  }

  /** Marks clusters as used. Returns how many were already. */
  #mark(offset: number, length: number): number {
    const { clusterSize } = this.#image.header
    this.#end = Math.max(this.#end, offset + length)
    let conflicts = 0
    for (let at = offset / clusterSize; at < (offset + length) / clusterSize; at++) {
      const byte = this.#used[at >>> 3] ?? 0
      const bit = 1 << (at & 7)
      if ((byte & bit) !== 0) conflicts++
      this.#used[at >>> 3] = byte | bit
    }
    return conflicts
  }

  #countLeaks(from: number, to: number): number {
    let leaks = 0
    for (let at = from; at < to; at++) {
      if (((this.#used[at >>> 3] ?? 0) & (1 << (at & 7))) === 0) leaks++
    }
    return leaks
  }

  /** Counts and tells a corruption. Returns the empty entry that takes its place. */
  #wrong(what: string): 0 {
    this.#corruptions++
    this.#tell(what, this.#store === undefined ? 'ERROR' : 'Repairing')
    return 0
  }

  #tell(what: string, verb: string): void {
    if (this.#told < mostTold) this.#options.report(`${verb} ${what}`, 'error')
    else if (this.#told === mostTold) this.#options.report('More errors follow; they are counted, not told.', 'error')
    this.#told++
  }

  async #markClosed(store: ByteStore): Promise<void> {
    const { header } = this.#image
    if ((header.features & feature.needCheck) === 0) return
    header.features &= ~feature.needCheck
    await store.write(0, encodeHeader(header))
    await store.flush()
  }
}
