/** Writes a file front to back and leaves holes for zeros. */
import type { ByteStore } from '@moraine/engine'

const bufferBytes = 1024 * 1024
/** The least stretch of zeros that becomes a hole; what file systems allocate at once. */
const blockBytes = 4096
const zeros = Buffer.alloc(blockBytes)

/** Takes bytes in order; one buffer is written while the next fills. */
export class SparseWriter {
  private readonly store: ByteStore
  private readonly buffers = [Buffer.allocUnsafeSlow(bufferBytes), Buffer.allocUnsafeSlow(bufferBytes)] as const
  private turn: 0 | 1 = 0
  private filled = 0
  private begin: number
  private writing: Promise<void> = Promise.resolve()

  /** What lies from `start` on must be new, or read as zeros. */
  constructor(store: ByteStore, start: number) {
    this.store = store
    this.begin = start
  }

  /** Bytes up to here were taken. */
  get position(): number {
    return this.begin + this.filled
  }

  /** Takes the next bytes; they may be overwritten when this returns. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const taken = bytes.subarray(at, at + bufferBytes - this.filled)
      this.buffers[this.turn].set(taken, this.filled)
      this.filled += taken.length
      at += taken.length
      if (this.filled === bufferBytes) await this.pass()
    }
  }

  /** All is written, and the file is as long as what was taken. */
  async finish(): Promise<void> {
    await this.pass()
    await this.writing
    await this.store.resize(this.begin)
  }

  private async pass(): Promise<void> {
    await this.writing
    const bytes = this.buffers[this.turn].subarray(0, this.filled)
    this.writing = this.put(this.begin, bytes)
    // A failure is met by the next one who waits.
    this.writing.catch(() => {})
    this.begin += this.filled
    this.filled = 0
    this.turn = this.turn === 0 ? 1 : 0
  }

  private async put(offset: number, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const end = dataEnd(bytes, at, offset)
      if (end > at) await this.store.write(offset + at, bytes.subarray(at, end))
      at = end
      while (at < bytes.length && isHole(bytes, at, offset)) at = blockEnd(bytes, at, offset)
    }
  }
}

/** The end of the block in which a byte lies: blocks are those of the file. */
function blockEnd(bytes: Buffer, at: number, offset: number): number {
  return Math.min(bytes.length, at + blockBytes - ((offset + at) % blockBytes))
}

function isHole(bytes: Buffer, at: number, offset: number): boolean {
  const end = blockEnd(bytes, at, offset)
  return bytes[at] === 0 && bytes.compare(zeros, 0, end - at, at, end) === 0
}

function dataEnd(bytes: Buffer, start: number, offset: number): number {
  let at = start
  while (at < bytes.length && !isHole(bytes, at, offset)) at = blockEnd(bytes, at, offset)
  return at
}
