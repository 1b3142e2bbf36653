/** Writes that begin or end within a sector of an encrypted image: what stands around them is read, and whole sectors are written. */
import { roundDown, roundUp } from '../bytes/integers.ts'
import { Mutex } from '../bytes/mutex.ts'
import { type ByteSource, readPadded } from '../core/index.ts'

/** Widens writes to whole sectors, one at a time: two of them may want the same sector. */
export class SectorEdges {
  readonly #turn = new Mutex()
  readonly #sectorBytes: number

  constructor(sectorBytes: number) {
    this.#sectorBytes = sectorBytes
  }

  /** Whether a range is whole sectors, or ends where the disk does. */
  fits(offset: number, length: number): boolean {
    return offset % this.#sectorBytes === 0 && length % this.#sectorBytes === 0
  }

  /** Writes through `write`, which takes whole sectors. */
  write(
    disk: ByteSource,
    offset: number,
    from: Uint8Array,
    write: (offset: number, bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    return this.#turn.run(async () => {
      const start = roundDown(offset, this.#sectorBytes)
      const end = roundUp(offset + from.length, this.#sectorBytes)
      const whole = new Uint8Array(end - start)
      const head = Math.min(whole.length, this.#sectorBytes)
      await readPadded(disk, start, whole.subarray(0, head))
      const tail = whole.length - this.#sectorBytes
      if (tail > 0) await readPadded(disk, start + tail, whole.subarray(tail))
      whole.set(from, offset - start)
      await write(start, whole)
    })
  }
}
