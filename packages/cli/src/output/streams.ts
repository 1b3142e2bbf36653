/** Standard output and error, written directly: order is kept, nothing is lost at exit, and Node's stream modules need not load. */
import { writeSync } from 'node:fs'
import { encodeName } from '@moraine/engine'
import { Failure } from '../failure.ts'

/** Whoever read our output went away. Not an error: the command ends quietly. */
export class ClosedPipe extends Error {}

const batch = 64 * 1024

/** What becomes of a command whose text cannot be written (a full disk, a reader who went away): it fails, or the text is dropped, as programs in C do that never ask. */
export type WhenLost = 'fails' | 'drops'

/** Text out to a descriptor, gathered into large writes. */
export class TextOutput {
  private readonly descriptor: number
  private readonly whenLost: WhenLost
  private pending = ''

  constructor(descriptor: number, whenLost: WhenLost) {
    this.descriptor = descriptor
    this.whenLost = whenLost
  }

  /** @throws ClosedPipe, Failure */
  write(text: string): void {
    this.pending += text
    if (this.pending.length >= batch) this.flush()
  }

  /** Writes at once what is shown in passing: it is dropped when it cannot be written. */
  show(text: string): void {
    this.pending += text
    this.drain()
  }

  /** @throws ClosedPipe, Failure */
  flush(): void {
    const error = this.writePending()
    if (error === undefined || this.whenLost === 'drops') return
    if (error.code === 'EPIPE') throw new ClosedPipe()
    throw new Failure(`error while writing to standard output: ${error.message}`)
  }

  /** As `flush`, but what cannot be written is dropped. */
  drain(): void {
    this.writePending()
  }

  /** What went wrong, if something did. */
  private writePending(): NodeJS.ErrnoException | undefined {
    if (this.pending === '') return undefined
    // Not a Buffer, which under Bun takes 0.2 ms to load.
    const bytes = encodeName(this.pending)
    this.pending = ''
    return writeAll(this.descriptor, bytes)
  }
}

function writeAll(descriptor: number, bytes: Uint8Array): NodeJS.ErrnoException | undefined {
  let done = 0
  while (done < bytes.length) {
    try {
      done += writeSync(descriptor, bytes, done)
    } catch (error) {
      const failed = error as NodeJS.ErrnoException
      if (failed.code !== 'EAGAIN') return failed
      // A pipe that somebody made non-blocking and that is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
  return undefined
}
