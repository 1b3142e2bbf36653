/** The bytes of a member, in place: a window of the archive, or its pieces with the holes between them. */
import type { ByteSource, Extent } from '../../core/index.ts'
import { sliceSource } from '../../source/index.ts'
import { checkRange } from '../../source/range.ts'
import type { TarRun } from './header.ts'
import type { TarMember } from './read-members.ts'

/** A plain member's bytes; they borrow the archive. */
export function tarMemberBytes(archive: ByteSource, member: TarMember): ByteSource {
  const name = `${archive.name}#${member.name}`
  const stored = sliceSource(archive, member.offset, member.stored, { name })
  return member.runs === undefined ? stored : new SparseMember(name, stored, member.size, member.runs)
}

class SparseMember implements ByteSource {
  readonly name: string
  readonly size: number
  readonly #stored: ByteSource
  /** In order; `at` is the place among what is stored. */
  readonly #runs: (TarRun & { at: number })[]

  constructor(name: string, stored: ByteSource, size: number, runs: readonly TarRun[]) {
    this.name = name
    this.size = size
    this.#stored = stored
    let at = 0
    this.#runs = runs.map((run) => {
      const placed = { ...run, at }
      at += run.length
      return placed
    })
  }

  get identity(): string | undefined {
    return this.#stored.identity
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    into.fill(0)
    const end = offset + into.length
    for (let index = this.#after(offset); index < this.#runs.length; index++) {
      const run = this.#runs[index]
      if (run === undefined || run.offset >= end) return
      const from = Math.max(offset, run.offset)
      const to = Math.min(end, run.offset + run.length)
      await this.#stored.read(run.at + from - run.offset, into.subarray(from - offset, to - offset), signal)
    }
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    checkRange(this.name, this.size, offset, length, signal)
    const end = offset + length
    let batch: Extent[] = []
    let at = offset
    for (let index = this.#after(offset); at < end; index++) {
      const run = this.#runs[index]
      const start = Math.min(end, Math.max(at, run?.offset ?? end))
      if (start > at) batch.push({ offset: at, length: start - at, allocated: true, data: false, zero: true, depth: 0 })
      at = start
      if (run !== undefined && at < end) {
        const to = Math.min(end, run.offset + run.length)
        batch.push({ offset: at, length: to - at, allocated: true, data: true, zero: false, depth: 0 })
        at = to
      }
      if (batch.length >= 256) {
        yield batch
        batch = []
      }
    }
    if (batch.length > 0) yield batch
  }

  async allocatedSize(): Promise<number> {
    return this.#stored.size
  }

  close(): Promise<void> {
    return this.#stored.close()
  }

  /** The first piece that ends behind an offset. */
  #after(offset: number): number {
    let low = 0
    let high = this.#runs.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const run = this.#runs[middle]
      if (run !== undefined && run.offset + run.length <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
}
