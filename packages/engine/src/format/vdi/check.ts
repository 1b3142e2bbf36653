/** Checking a VDI image, and repairing it. What is found, in which words, and what is counted: QEMU 7.2's `qemu-img check`, which repairs nothing. */

import type { Disk } from '../../core/index.ts'
import { type ByteStore, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { BlockCopier, mostCopies } from '../growth.ts'
import { VdiDisk, type VdiImage } from './disk.ts'
import { encodeHeader, entry } from './layout.ts'
import { WritableVdiDisk } from './writable-disk.ts'

/** Most findings that are told one by one. */
const mostTold = 1000
/** QEMU's largest map takes that, a bit for each block. */
const mostMapBits = 64 * 1024 * 1024

/** Checks a disk opened with purpose `check`: every place once in use, none past the image's blocks, as many as the header counts.
 *  A repair (`all`) corrects the count, gives a block whose place another has too a copy of its own, and empties entries that point nowhere.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `limit` when the map is too large to check. */
export async function checkVdi(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof VdiDisk)) {
    throw new MoraineError('invalid', 'not an opened VDI image', { path: disk.name, format: 'vdi' })
  }
  if (disk instanceof WritableVdiDisk) return disk.alone(() => new VdiCheck(disk, options, disk.store).run())
  if (options.repair !== 'none') {
    const place = { path: disk.name, format: 'vdi', field: 'repair' }
    throw new MoraineError('denied', 'the image is open for reading only', place)
  }
  return new VdiCheck(disk, options, undefined).run()
}

class VdiCheck {
  readonly #disk: VdiDisk
  readonly #image: VdiImage
  readonly #options: CheckOptions
  /** Set where it is to be repaired. */
  readonly #store: ByteStore | undefined
  readonly #used: Uint8Array
  #corruptions = 0
  #fixed = 0
  #told = 0
  /** Places that two blocks have, and entries past the blocks whose bytes are there: each wants a place of its own. */
  #shared = 0

  constructor(disk: VdiDisk, options: CheckOptions, store: ByteStore | undefined) {
    this.#disk = disk
    this.#image = disk.image
    this.#options = options
    this.#store = options.repair === 'all' ? store : undefined
    const bytes = Math.ceil(this.#image.header.blocks / 8)
    const { checkBytes } = this.#image.context.limits
    if (bytes > Math.max(checkBytes, mostMapBits)) {
      throw new MoraineError('limit', 'the block map is too large to check', {
        path: disk.name,
        format: 'vdi',
        field: 'blocks_in_image',
        value: this.#image.header.blocks,
        rule: `at most ${checkBytes * 8}`,
      })
    }
    this.#used = new Uint8Array(bytes)
  }

  async run(): Promise<CheckResult> {
    const counted = await this.#countBlocks()
    await this.#compareCount(counted)
    if (this.#store !== undefined) await this.#repair(this.#store)
    this.#options.onProgress?.({ done: this.#disk.size, total: this.#disk.size })
    return {
      checkErrors: 0,
      leaks: 0,
      corruptions: this.#corruptions - this.#fixed,
      leaksFixed: 0,
      corruptionsFixed: this.#fixed,
    }
  }

  async #countBlocks(): Promise<number> {
    const { blocks, blockSize } = this.#image.header
    const { signal, onProgress } = this.#options
    let counted = 0
    for await (const { first, entries } of this.#image.table.all(signal, this.#store !== undefined)) {
      throwIfCancelled(signal, this.#disk.name)
      for (let i = 0; i < entries.length; i++) {
        const index = entries[i] as number
        if (index >= entry.discarded) continue
        if (index >= blocks) {
          this.#tell(`ERROR: block index ${first + i} too large, is ${index}`)
          // One that is there gets a place among the others.
          if (this.#disk.isPlace(index)) this.#shared++
          else {
            const emptying = this.#store && this.#empty(first + i, this.#store)
            if (emptying !== undefined) await emptying
          }
          continue
        }
        counted++
        if (mark(this.#used, index)) continue
        // QEMU names the place twice, not the two blocks.
        this.#tell(`ERROR: block index ${index} also used by ${index}`)
        this.#shared++
      }
      onProgress?.({ done: Math.min(first * blockSize, this.#disk.size), total: this.#disk.size })
    }
    return counted
  }

  /** At once, as long as there is room for changes: millions of entries may be wrong. */
  #empty(block: number, store: ByteStore): Promise<void> | undefined {
    const { table } = this.#image
    const setting = table.set(block, entry.unallocated)
    // A header that counts too many blocks wastes a place; one that counts too few would lose one.
    if (setting === undefined) return table.crowded ? table.writeBack(store) : undefined
    return setting.then(() => (table.crowded ? table.writeBack(store) : undefined))
  }

  async #compareCount(counted: number): Promise<void> {
    const { blocksAllocated } = this.#image.header
    if (counted === blocksAllocated) return
    this.#tell(`ERROR: allocated blocks mismatch, is ${counted}, should be ${blocksAllocated}`)
  }

  #tell(line: string): void {
    this.#corruptions++
    if (this.#told < mostTold) this.#options.report(line, 'error')
    else if (this.#told === mostTold) this.#options.report('More errors follow; they are counted, not told.', 'error')
    this.#told++
  }

  async #repair(store: ByteStore): Promise<void> {
    const { header, table } = this.#image
    if (this.#corruptions === 0) return
    const isWhole = this.#shared === 0 || (await this.#separate(store))
    await store.flush()
    let counted = 0
    for await (const { entries } of table.all()) for (const index of entries) if (index < entry.discarded) counted++
    header.blocksAllocated = counted
    await store.write(0, encodeHeader(header).slice())
    await store.flush()
    await table.writeBack(store)
    await store.flush()
    if (isWhole) this.#fixed = this.#corruptions
  }

  /** Gives every block whose place another has one of its own. False when there are no free places left.
   *  @throws MoraineError `limit` when the copies would take more room than all that there is, or there are too many blocks to tell apart. */
  async #separate(store: ByteStore): Promise<boolean> {
    const { header, table, context } = this.#image
    const { blocks, blockSize, blockExtra } = header
    const refuse = (field: string, value: number, most: number): never => {
      const place = { path: this.#disk.name, format: 'vdi', field, value, rule: `at most ${most}` }
      throw new MoraineError('limit', 'too many blocks have the place of another', place)
    }
    const room = Math.max(context.limits.checkBytes, mostMapBits)
    if (2 * this.#used.length > room) refuse('blocks_in_image', blocks, room * 4)
    const met = new Uint8Array(this.#used.length)
    const most = mostCopies(this.#disk.file.size)
    const copier = new BlockCopier(store)
    let free = 0
    let copied = 0
    for await (const { first, entries } of table.all(this.#options.signal)) {
      for (let i = 0; i < entries.length; i++) {
        const index = entries[i] as number
        if (index >= entry.discarded || !this.#disk.isPlace(index) || (index < blocks && mark(met, index))) continue
        while (free < blocks && !mark(this.#used, free)) free++
        if (free === blocks) return false
        copied += blockSize + blockExtra
        if (copied > most) refuse('copies', copied, most)
        await copier.copy(
          this.#disk.hostOf(index) - blockExtra,
          this.#disk.hostOf(free) - blockExtra,
          blockExtra + blockSize,
        )
        await table.set(first + i, free)
        mark(met, free)
        if (!table.crowded) continue
        // The count comes before the map: it is the place of the next new block.
        header.blocksAllocated = Math.max(header.blocksAllocated, free + 1)
        await store.write(0, encodeHeader(header).slice())
        await store.flush()
        await table.writeBack(store)
      }
    }
    return true
  }
}

/** Marks a place; false when it was marked already. */
function mark(bits: Uint8Array, index: number): boolean {
  const byte = bits[index >>> 3] as number
  const bit = 1 << (index & 7)
  bits[index >>> 3] = byte | bit
  return (byte & bit) === 0
}
