/** The entry of the standalone executable: as `main.ts`, without the cache of compiled code, since the executable is compiled. */
import './signals.ts'
import { readlinkSync } from 'node:fs'
import { runCommand } from './run.ts'

/** The name it was called by: of the links on the way here, the first that says who is meant. (node:path would take longer to load than this to run.) */
function calledAs(): string {
  for (let path = process.argv0; ; ) {
    const folder = path.slice(0, path.lastIndexOf('/') + 1)
    const name = path.slice(folder.length)
    if (name === 'qemu-img' || name === 'moraine') return name
    try {
      const link = readlinkSync(path)
      path = link.startsWith('/') ? link : folder + link
    } catch {
      return name
    }
  }
}

void runCommand(process.env.MORAINE_CALLED_AS ?? calledAs(), process.argv.slice(2))
