/** Checking a VDI image, and repairing it. What is found, in which words, and what is counted: QEMU 7.2's `qemu-img check`, which repairs nothing. */

import type { Disk } from '../../core/index.ts'
import { type ByteStore, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { copyAside } from '../growth.ts'
import { VdiDisk, type VdiImage } from './disk.ts'
import { encodeHeader, entry } from './layout.ts'
import { WritableVdiDisk } from './writable-disk.ts'

/** Most findings that are told one by one. */
const mostTold = 1000

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
  /** Blocks whose entry is wrong: pointing nowhere (`lost`) or at another's place. */
  readonly #wrong: { block: number; lost: boolean }[] = []

  constructor(disk: VdiDisk, options: CheckOptions, store: ByteStore | undefined) {
    this.#disk = disk
    this.#image = disk.image
    this.#options = options
    this.#store = options.repair === 'all' ? store : undefined
    const bytes = Math.ceil(this.#image.header.blocks / 8)
    const { checkBytes } = this.#image.context.limits
    // QEMU's largest map takes 64 MiB, a bit for each block.
    if (bytes > Math.max(checkBytes, 64 * 1024 * 1024)) {
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
    for await (const { first, entries } of this.#image.table.all(signal)) {
      throwIfCancelled(signal, this.#disk.name)
      for (let i = 0; i < entries.length; i++) {
        const index = entries[i] as number
        if (index >= entry.discarded) continue
        if (index >= blocks) {
          this.#tell(`ERROR: block index ${first + i} too large, is ${index}`)
          // One that is there gets a place among the others.
          this.#note(first + i, !this.#disk.isPlace(index))
          continue
        }
        counted++
        if (this.#take(index)) continue
        // QEMU names the place twice, not the two blocks.
        this.#tell(`ERROR: block index ${index} also used by ${index}`)
        this.#note(first + i, false)
      }
      onProgress?.({ done: Math.min(first * blockSize, this.#disk.size), total: this.#disk.size })
    }
    return counted
  }

  /** Marks a place as used; false when it was already. */
  #take(index: number): boolean {
    const byte = this.#used[index >>> 3] as number
    const bit = 1 << (index & 7)
    this.#used[index >>> 3] = byte | bit
    return (byte & bit) === 0
  }

  #note(block: number, lost: boolean): void {
    if (this.#store !== undefined) this.#wrong.push({ block, lost })
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
    let free = 0
    for (const { block, lost } of this.#wrong) {
      if (lost) {
        await table.set(block, entry.unallocated)
        continue
      }
      while (free < header.blocks && !this.#take(free)) free++
      if (free === header.blocks) return
      await this.#copyBlock(store, await table.get(block), free)
      await table.set(block, free)
    }
    await store.flush()
    let counted = 0
    for await (const { entries } of table.all()) for (const index of entries) if (index < entry.discarded) counted++
    header.blocksAllocated = counted
    await store.write(0, encodeHeader(header).slice())
    await store.flush()
    await table.writeBack(store)
    await store.flush()
    this.#fixed = this.#corruptions
  }

  async #copyBlock(store: ByteStore, from: number, to: number): Promise<void> {
    const { blockSize, blockExtra } = this.#image.header
    await copyAside(
      store,
      this.#disk.hostOf(from) - blockExtra,
      this.#disk.hostOf(to) - blockExtra,
      blockExtra + blockSize,
    )
  }
}
