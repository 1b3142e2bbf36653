/** Synchronous reads and writes of workers, on descriptors that the process shares. */
import { readSync, writeSync } from 'node:fs'
import { codeOf, hostError } from './host-error.ts'

/** Fills `into` from byte `offset` on, with zeros where the file has ended.
 *  @throws MoraineError `io`. */
export function readFully(descriptor: number, name: string | undefined, offset: number, into: Uint8Array): void {
  let filled = 0
  while (filled < into.length) {
    let bytes: number
    try {
      bytes = readSync(descriptor, into, filled, into.length - filled, offset + filled)
    } catch (error) {
      throw hostError(codeOf(error), { path: name, offset: offset + filled })
    }
    if (bytes === 0) {
      into.fill(0, filled)
      return
    }
    filled += bytes
  }
}

/** Writes all of `from` at byte `offset`.
 *  @throws MoraineError `io`. */
export function writeFully(descriptor: number, name: string | undefined, offset: number, from: Uint8Array): void {
  let written = 0
  while (written < from.length) {
    try {
      written += writeSync(descriptor, from, written, from.length - written, offset + written)
    } catch (error) {
      throw hostError(codeOf(error), { path: name, offset: offset + written })
    }
  }
}
