/** Which blocks of a source hold data, and their bytes in order: what formats that are written front to back are made from. */
import { type Disk, MoraineError, throwIfCancelled } from '../core/index.ts'

/** `count` blocks from `first` on hold data; the blocks before and after them do not. */
export interface BlockRun {
  first: number
  count: number
}

/** Runs that are remembered; with more, the source is asked again on each walk. */
const remembered = 65_536

const chunkBytes = 1024 * 1024

/** The runs of one source, which must not change meanwhile. */
export class BlockRuns {
  readonly #disk: Disk
  readonly #blockSize: number
  readonly #all: boolean
  #known: BlockRun[] | undefined

  /** `blockSize` in bytes. With `all` every block counts, whatever it holds. */
  constructor(disk: Disk, blockSize: number, all = false) {
    this.#disk = disk
    this.#blockSize = blockSize
    this.#all = all
  }

  /** All runs in guest order, none touching the next. A block that holds data in part counts. */
  async *walk(signal?: AbortSignal): AsyncGenerator<BlockRun, void, undefined> {
    if (this.#known !== undefined) {
      yield* this.#known
      return
    }
    let seen: BlockRun[] | undefined = []
    for await (const run of this.#find(signal)) {
      throwIfCancelled(signal, this.#disk.name)
      if (seen !== undefined && seen.push(run) > remembered) seen = undefined
      yield run
    }
    this.#known = seen
  }

  /** How many blocks hold data. */
  async count(): Promise<number> {
    let blocks = 0
    for await (const { count } of this.walk()) blocks += count
    return blocks
  }

  async *#find(signal?: AbortSignal): AsyncIterable<BlockRun> {
    const { size } = this.#disk
    if (size === 0) return
    if (this.#all) {
      yield { first: 0, count: Math.ceil(size / this.#blockSize) }
      return
    }
    let run: BlockRun | undefined
    for await (const batch of this.#disk.extents(0, size, signal)) {
      for (const { offset, length, zero } of batch) {
        if (zero) continue
        const first = Math.floor(offset / this.#blockSize)
        const end = Math.ceil((offset + length) / this.#blockSize)
        if (run !== undefined && first <= run.first + run.count) {
          run.count = Math.max(run.count, end - run.first)
          continue
        }
        if (run !== undefined) yield run
        run = { first, count: end - first }
      }
    }
    if (run !== undefined) yield run
  }
}

/** The bytes of all blocks that hold data, whole blocks (zeros past the disk's end), read a chunk ahead of what was taken. `before` comes in front of
 *  each block. `blocks` is how many were promised.
 *  @throws MoraineError `io` when the source was changed since its blocks were counted. */
export async function* blockChunks(
  disk: Disk,
  runs: BlockRuns,
  blockSize: number,
  blocks: number,
  signal?: AbortSignal,
  before?: Uint8Array,
): AsyncIterable<Uint8Array> {
  let left = blocks
  let next: Promise<Uint8Array> | undefined
  try {
    for await (const { first, count } of runs.walk(signal)) {
      left -= count
      if (left < 0) throw changedSource(disk)
      // What comes in front of each block parts it from the one before; otherwise small blocks are read together.
      const piece = before === undefined ? count * blockSize : blockSize
      for (let start = first * blockSize; start < (first + count) * blockSize; start += piece) {
        for (let at = 0; at < piece; at += chunkBytes) {
          const last: Promise<Uint8Array> | undefined = next
          const length = Math.min(chunkBytes, piece - at)
          next = readChunk(disk, start + at, length, at === 0 ? before : undefined, signal)
          next.catch(() => {}) // Looked at in its turn.
          if (last !== undefined) yield await last
        }
      }
    }
    if (left !== 0) throw changedSource(disk)
    if (next !== undefined) yield await next
  } finally {
    await next?.catch(() => {}) // No read outlives the stream: the disk may be closed next.
  }
}

async function readChunk(
  disk: Disk,
  offset: number,
  length: number,
  before: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  throwIfCancelled(signal, disk.name)
  const head = before?.length ?? 0
  const bytes = new Uint8Array(head + length)
  if (before !== undefined) bytes.set(before)
  const there = Math.max(0, Math.min(length, disk.size - offset))
  if (there > 0) await disk.read(offset, bytes.subarray(head, head + there), signal)
  return bytes
}

/** The length was promised before the first byte. */
export function changedSource(disk: Disk): MoraineError {
  return new MoraineError('io', 'the source was changed while it was streamed', { path: disk.name })
}
