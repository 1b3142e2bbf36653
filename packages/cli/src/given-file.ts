/** Files that the user names on the command line and that are read whole: text, keys, boot code. */
import { readFile } from 'node:fs/promises'
import { codeOf, strerror } from '@moraine/engine/node'
import { Failure } from './failure.ts'

/** All of a file; `-` is standard input, where the caller says so.
 *  @throws Failure */
export async function readGivenFile(name: string, { stdin = false } = {}): Promise<Uint8Array> {
  try {
    if (!(stdin && name === '-')) return await readFile(name)
    const chunks: Buffer[] = []
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks)
  } catch (error) {
    throw new Failure(`Could not read '${name}': ${strerror(codeOf(error))}`)
  }
}
