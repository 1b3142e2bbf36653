/** Writes the command's man pages to `packages/cli/man`, and their names into its manifest, as the build does. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { manPages } from '../packages/cli/src/man.ts'
import { personaFor } from '../packages/cli/src/persona.ts'
import { ownVersion } from '../packages/cli/src/version.ts'
import { root } from './build/workspace.ts'

const folder = join(root, 'packages', 'cli', 'man')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder)
const pages = await manPages(personaFor('moraine'), ownVersion())
for (const { file, text } of pages) writeFileSync(join(folder, file), text)
// npm links only pages that the manifest names one by one.
const path = join(root, 'packages', 'cli', 'package.json')
const manifest = readFileSync(path, 'utf8')
const list = JSON.stringify(
  pages.map(({ file }) => `./man/${file}`),
  null,
  2,
).replaceAll('\n', '\n  ')
const named = manifest.replace(/"man": \[[^\]]*\]/, () => `"man": ${list}`)
if (named !== manifest) writeFileSync(path, named)
