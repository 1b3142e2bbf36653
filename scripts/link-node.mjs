/** Runs after `npm ci`, under whatever Node the machine has: sees to it that the pinned Node is the one that npm's scripts find.
 *  npm 10 links `node_modules/.bin/node` for the package of this processor, and removes it again together with the package of the other. */
import { existsSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const modules = join(dirname(fileURLToPath(import.meta.url)), '..', 'node_modules')
const name = `node-${process.platform}-${process.arch}`
const link = join(modules, '.bin', 'node')
if (existsSync(join(modules, name, 'bin', 'node')) && !existsSync(link)) {
  rmSync(link, { force: true })
  symlinkSync(join('..', name, 'bin', 'node'), link)
}
