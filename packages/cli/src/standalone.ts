/** The entry of the standalone executable: as `main.ts`, without the cache of compiled code, since the executable is compiled. */
import './signals.ts'
import { readlinkSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { runCommand } from './run.ts'

/** The name it was called by: of the links on the way here, the first that says who is meant. */
function calledAs(): string {
  for (let path = process.argv0; ; ) {
    const name = basename(path)
    if (name === 'qemu-img' || name === 'moraine') return name
    try {
      path = resolve(dirname(path), readlinkSync(path))
    } catch {
      return name
    }
  }
}

await runCommand(process.env.MORAINE_CALLED_AS ?? calledAs(), process.argv.slice(2))
