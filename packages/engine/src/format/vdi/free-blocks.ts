/** Places for new blocks: behind the last one in use, and in the holes that VirtualBox leaves after discards when nothing is free behind. */
import type { VdiImage } from './disk.ts'
import { entry } from './layout.ts'

/** Where the next block goes. */
export class FreeBlocks {
  readonly #image: VdiImage
  #next: number
  #holes: Generator<number> | undefined
  /** Blocks in use. */
  used: number
  /** Index that was taken last. */
  last = 0

  private constructor(image: VdiImage, next: number, used: number) {
    this.#image = image
    this.#next = next
    this.used = used
  }

  /** Looks through the whole map: the header's count is wrong where there are holes. */
  static async find(image: VdiImage): Promise<FreeBlocks> {
    const { blocks } = image.header
    let next = 0
    let used = 0
    for await (const { entries } of image.table.all()) {
      for (let i = 0; i < entries.length; i++) {
        const index = entries[i] as number
        if (index >= entry.discarded) continue
        used++
        if (index >= next && index < blocks) next = index + 1
      }
    }
    return new FreeBlocks(image, next, used)
  }

  /** Index behind the last block that has a place. */
  get end(): number {
    return this.#next
  }

  /** Takes a place; undefined when there is none. */
  async take(): Promise<number | undefined> {
    const { blocks } = this.#image.header
    let index: number | undefined
    if (this.#next < blocks) index = this.#next++
    else {
      this.#holes ??= await this.#findHoles()
      const hole = this.#holes.next()
      index = hole.done === true ? undefined : hole.value
    }
    if (index === undefined) return undefined
    this.used++
    this.last = index
    return index
  }

  /** Takes back the place that was taken last: nothing came to lie there. A hole is found again when the image is opened the next time. */
  giveBack(): void {
    this.used--
    if (this.last === this.#next - 1) this.#next--
  }

  async #findHoles(): Promise<Generator<number>> {
    const { blocks } = this.#image.header
    const taken = new Uint8Array(Math.ceil(blocks / 8))
    for await (const { entries } of this.#image.table.all()) {
      for (const index of entries) {
        if (index < blocks) taken[index >>> 3] = (taken[index >>> 3] as number) | (1 << (index & 7))
      }
    }
    return (function* () {
      for (let index = 0; index < blocks; index++) {
        if (((taken[index >>> 3] as number) & (1 << (index & 7))) === 0) yield index
      }
    })()
  }
}
