/** Standard output and error, written directly: order is kept, nothing is lost at exit, and Node's stream modules need not load. */
import { writeSync } from 'node:fs'

/** Whoever read our output went away. Not an error: the command ends quietly. */
export class ClosedPipe extends Error {}

const batch = 64 * 1024
const encoder = new TextEncoder()

/** Text out to a descriptor, gathered into large writes. */
export class TextOutput {
  private readonly descriptor: number
  private pending = ''

  constructor(descriptor: number) {
    this.descriptor = descriptor
  }

  /** @throws ClosedPipe */
  write(text: string): void {
    this.pending += text
    if (this.pending.length >= batch) this.flush()
  }

  /** @throws ClosedPipe */
  flush(): void {
    if (this.pending === '') return
    // Not a Buffer, which under Bun takes 0.2 ms to load.
    const bytes = encoder.encode(this.pending)
    this.pending = ''
    writeAll(this.descriptor, bytes)
  }
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  let done = 0
  while (done < bytes.length) {
    try {
      done += writeSync(descriptor, bytes, done)
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      if (code === 'EPIPE') throw new ClosedPipe()
      if (code !== 'EAGAIN') throw error
      // A pipe that somebody made non-blocking and that is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
}
