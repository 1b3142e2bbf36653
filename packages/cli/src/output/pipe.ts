/** Bytes of an image to standard output. */
import { write } from 'node:fs'
import { MoraineError, type RunOptions, type StreamPlan, throwIfCancelled } from '@moraine/engine'
import { Failure } from '../failure.ts'

const standardOutput = 1

/** The reader of an image went away: the rest is lost, so the command fails, but there is nobody to tell. */
class LostReader extends Failure {
  constructor() {
    super([])
  }
}

/** Writes a stream; returns when all of it was taken.
 *  @throws Failure when standard output is a terminal or cannot be written. */
export async function writeStream(stream: StreamPlan, run: RunOptions): Promise<void> {
  if (process.stdout.isTTY) throw new Failure('an image is not written to a terminal; redirect standard output')
  let done = 0
  const total = stream.length ?? 0
  for await (const chunk of stream.chunks(run.signal)) {
    await writeChunk(chunk, run.signal)
    done += chunk.length
    if (total > 0) run.onProgress?.({ done, total })
  }
}

async function writeChunk(chunk: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  for (let at = 0; at < chunk.length; ) {
    throwIfCancelled(signal)
    at += await writeSome(chunk, at, signal)
  }
}

/** Bytes taken; 0 when a non-blocking pipe is full. A reader that takes nothing must not hold up the end of the command. */
function writeSome(chunk: Uint8Array, at: number, signal: AbortSignal | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      reject(new MoraineError('cancelled', 'the operation was cancelled'))
    }
    signal?.addEventListener('abort', stop, { once: true })
    write(standardOutput, chunk, at, chunk.length - at, null, (error, written) => {
      signal?.removeEventListener('abort', stop)
      if (error === null) resolve(written)
      else if (error.code === 'EAGAIN') setTimeout(() => resolve(0), 2)
      else if (error.code === 'EPIPE') reject(new LostReader())
      else reject(new Failure(`error while writing to standard output: ${error.message}`))
    })
  })
}
