/** Checking a Parallels image, and repairing it. What is found, in which words, and what is counted: QEMU 7.2's `qemu-img check`, and clusters that two
 *  entries share, which it does not look for (in the words of later versions). */
import { roundUp } from '../../bytes/integers.ts'
import { type ByteStore, type Disk, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { BlockCopier, mostCopies } from '../growth.ts'
import { ParallelsDisk, type ParallelsImage } from './disk.ts'
import { bitClusters } from './extension.ts'
import { encodeHeader, headerBytes, inUse, parallelsFault } from './layout.ts'
import { WritableParallelsDisk } from './writable-disk.ts'

/** Most findings that are told one by one. */
const mostTold = 1000

/** Checks a disk opened with purpose `check`: closed as it should be, every cluster in the file and used once, nothing behind the last.
 *  `leaks` cuts off what is behind; `all` also empties entries that point nowhere, gives shared clusters a copy of their own, and says that the image is closed.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `limit` when there is too much to check. */
export async function checkParallels(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof ParallelsDisk)) {
    throw parallelsFault(disk.name, 'invalid', 'not an opened Parallels image', {})
  }
  if (disk instanceof WritableParallelsDisk) {
    return disk.alone(() => new ParallelsCheck(disk.image, options, disk.store).run())
  }
  if (options.repair !== 'none') {
    throw parallelsFault(disk.name, 'denied', 'the image is open for reading only', { field: 'repair' })
  }
  return new ParallelsCheck(disk.image, options, undefined).run()
}

class ParallelsCheck {
  readonly #image: ParallelsImage
  readonly #options: CheckOptions
  /** Set where errors are to be repaired. */
  readonly #store: ByteStore | undefined
  /** Set where leaks are. */
  readonly #cuts: ByteStore | undefined
  readonly #result: CheckResult = {
    checkErrors: 0,
    leaks: 0,
    corruptions: 0,
    leaksFixed: 0,
    corruptionsFixed: 0,
  }
  #told = 0
  /** Clusters that lie where another does, and get a copy. */
  #shared = 0

  constructor(image: ParallelsImage, options: CheckOptions, store: ByteStore | undefined) {
    this.#image = image
    this.#options = options
    this.#store = options.repair === 'all' ? store : undefined
    this.#cuts = options.repair === 'none' ? undefined : store
  }

  async run(): Promise<CheckResult> {
    const { header, file } = this.#image
    const result = this.#result
    result.totalClusters = header.entries
    if (header.inUse === inUse.open) this.#tell('image was not closed correctly')
    const end = await this.#walk()
    if (this.#store !== undefined) await this.#repair(this.#store)
    // Copies lie behind everything else.
    const usedEnd = this.#store === undefined ? end : this.#endWithCopies(end, this.#shared)
    result.imageEndOffset = usedEnd
    const size = roundUp(file.size, 512)
    if (size > usedEnd) {
      const leaks = Math.ceil((size - usedEnd) / header.clusterSize)
      const verb = this.#cuts === undefined ? 'ERROR' : 'Repairing'
      this.#options.report(`${verb} space leaked at the end of the image ${size - usedEnd}`, 'error')
      result.leaks = leaks
      if (this.#cuts !== undefined && this.#cuts.kind !== 'device') {
        await this.#cuts.resize(usedEnd)
        await this.#cuts.flush()
        result.leaksFixed = leaks
        result.leaks = 0
      }
    }
    result.corruptions -= result.corruptionsFixed
    this.#options.onProgress?.({ done: header.diskSize, total: header.diskSize })
    return result
  }

  #endWithCopies(end: number, copies: number): number {
    return copies === 0 ? end : this.#copyStart(end) + copies * this.#image.header.clusterSize
  }

  #copyStart(end: number): number {
    return roundUp(end, this.#image.header.entryUnit)
  }

  #end = 0

  /** Looks at every entry. Returns where the last cluster in use ends. */
  async #walk(): Promise<number> {
    const { header, table, file } = this.#image
    const { clusterSize, entryUnit } = header
    const { signal, onProgress } = this.#options
    const { used, end } = await this.#places()
    let high = end
    const tableEnd = headerBytes + header.entries * 4
    const size = roundUp(file.size, 512)
    let before = 0
    let allocated = 0
    let fragmented = 0
    for await (const { first, entries } of table.all(signal, this.#store !== undefined)) {
      throwIfCancelled(signal, file.name)
      for (let i = 0; i < entries.length; i++) {
        const host = (entries[i] as number) * entryUnit
        if (host === 0) {
          before = 0
          continue
        }
        const lost = host > size || host < tableEnd
        if (lost) {
          this.#tell(`cluster ${first + i} is ${host < tableEnd ? 'inside the table' : 'outside image'}`)
          if (this.#store !== undefined) {
            const setting = this.#setEntry(first + i, 0, this.#store)
            if (setting !== undefined) await setting
            before = 0
            continue
          }
        } else if (!used.take(host)) {
          this.#tell(`duplicate offset in BAT entry ${first + i}`)
          if (this.#store !== undefined) this.#shared++
        }
        allocated++
        if (host > high) high = host
        if (before !== 0 && before + clusterSize !== host) fragmented++
        before = host
      }
      onProgress?.({ done: Math.min(first * clusterSize, header.diskSize), total: header.diskSize })
    }
    this.#result.allocatedClusters = allocated
    this.#result.fragmentedClusters = fragmented
    this.#result.compressedClusters = 0
    this.#end = high === 0 ? header.dataOffset : high + clusterSize
    return this.#end
  }

  /** The places of the file, with those of the format extension taken, and where the last of these begins. */
  async #places(): Promise<{ used: Places; end: number }> {
    const { extension } = this.#image
    this.#used?.clear()
    this.#used ??= new Places(this.#image, await this.#leastAlignment())
    const used = this.#used
    let end = 0
    for (const at of extension === undefined ? [] : [extension.offset, ...bitClusters(extension)]) {
      used.take(at)
      end = Math.max(end, at)
    }
    return { used, end }
  }

  #used: Places | undefined

  /** Changes an entry, at once as long as there is room for changes: millions of entries may be wrong. */
  #setEntry(cluster: number, value: number, store: ByteStore): Promise<void> | undefined {
    const { table } = this.#image
    // What entries point at comes first.
    const relieve = () => (table.crowded ? store.flush().then(() => table.writeBack(store)) : undefined)
    const setting = table.set(cluster, value)
    return setting === undefined ? relieve() : setting.then(relieve)
  }

  /** Whether every cluster lies at a multiple of the cluster size from the first: then one bit for each will do. */
  async #leastAlignment(): Promise<{ base: number; unit: number }> {
    const { header, table } = this.#image
    const { clusterSize, entryUnit } = header
    if (header.extended) return { base: 0, unit: clusterSize }
    let base = 0
    let aligned = true
    for await (const { entries } of table.all(this.#options.signal)) {
      for (const entry of entries) {
        if (entry === 0) continue
        if (base === 0) base = (entry * entryUnit) % clusterSize
        else if ((entry * entryUnit - base) % clusterSize !== 0) aligned = false
      }
    }
    return aligned ? { base, unit: clusterSize } : { base: 0, unit: 512 }
  }

  #tell(what: string): void {
    this.#result.corruptions++
    const verb = this.#store === undefined ? 'ERROR' : 'Repairing'
    if (this.#told < mostTold) this.#options.report(`${verb} ${what}`, 'error')
    else if (this.#told === mostTold) this.#options.report('More errors follow; they are counted, not told.', 'error')
    this.#told++
  }

  /** Writes the entries that were emptied, then copies, then points the table at the copies, then writes the header. */
  async #repair(store: ByteStore): Promise<void> {
    const { header, table } = this.#image
    if (this.#result.corruptions === 0) return
    // Entries that lead behind the file would show what is copied there, were the power to fail between.
    await table.writeBack(store)
    await store.flush()
    if (this.#shared > 0) await this.#separate(store)
    await store.flush()
    await table.writeBack(store)
    await store.flush()
    if (header.inUse === inUse.open) {
      header.inUse = 0
      await store.write(0, encodeHeader(header).slice())
      await store.flush()
    }
    this.#result.corruptionsFixed = this.#result.corruptions
  }

  /** Gives each cluster that lies where one before it does a copy of its own.
   *  @throws MoraineError `limit` when the copies would take more room than all that there is. */
  async #separate(store: ByteStore): Promise<void> {
    const { header, table, file } = this.#image
    const { clusterSize, entryUnit } = header
    const start = this.#copyStart(this.#end)
    const most = mostCopies(file.size)
    const { used } = await this.#places()
    const copier = new BlockCopier(store)
    let place = start
    for await (const { first, entries } of table.all(this.#options.signal)) {
      for (let i = 0; i < entries.length; i++) {
        const host = (entries[i] as number) * entryUnit
        if (host === 0 || host >= start || used.take(host)) continue
        if (place - start + clusterSize > most) {
          const where = { field: 'copies', value: place - start + clusterSize, rule: `at most ${most} bytes` }
          throw parallelsFault(file.name, 'limit', 'too many clusters lie where others do', where)
        }
        await copier.copy(host, place, clusterSize)
        await this.#setEntry(first + i, place / entryUnit, store)
        place += clusterSize
      }
    }
  }
}

/** Which places of the file are in use. */
class Places {
  readonly #bits: Uint8Array
  readonly #base: number
  readonly #unit: number
  readonly #each: number

  /** @throws MoraineError `limit` when the file has more places than the caller gives memory for. */
  constructor({ file, header, context }: ParallelsImage, { base, unit }: { base: number; unit: number }) {
    const bytes = Math.ceil((file.size / unit + header.clusterSize / unit + 2) / 8)
    if (bytes > context.limits.checkBytes) {
      const place = { field: 'file size', value: file.size, rule: `at most ${context.limits.checkBytes * 8 * unit}` }
      throw parallelsFault(file.name, 'limit', 'the image is too large to check', place)
    }
    this.#bits = new Uint8Array(bytes)
    this.#base = base
    this.#unit = unit
    this.#each = header.clusterSize / unit
  }

  /** Takes all marks away. */
  clear(): void {
    this.#bits.fill(0)
  }

  /** Marks a cluster of the file as used; false when a part of it was already. */
  take(host: number): boolean {
    const first = Math.floor((host - this.#base) / this.#unit)
    let free = true
    for (let at = first; at < first + this.#each; at++) {
      const byte = this.#bits[at >>> 3] ?? 0
      const bit = 1 << (at & 7)
      if ((byte & bit) !== 0) free = false
      this.#bits[at >>> 3] = byte | bit
    }
    return free
  }
}
