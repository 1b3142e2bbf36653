/** `npm run tour`: runs the commands of the README's tour and of the guides, each page in one shell and a folder of its own, and compares what they print
 *  with what the page says. `--write` puts what they printed into the pages instead; `--page=NAME` runs that one alone. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './build/workspace.ts'
import { differences, readTour, writeTour } from './tour/page.ts'
import { pages, runTour } from './tour/run.ts'

const only = process.argv.find((argument) => argument.startsWith('--page='))?.slice('--page='.length)
for (const page of pages.filter(({ file }) => only === undefined || file === only)) {
  const path = join(root, page.file)
  const text = readFileSync(path, 'utf8')
  const steps = readTour(text)
  const outputs = await runTour(steps, page)
  if (process.argv.includes('--write')) {
    writeFileSync(path, writeTour(text, outputs))
    console.log(`${page.file}: ${steps.length} commands, written`)
    continue
  }
  const found = differences(steps, outputs)
  console.log(`${page.file}: ${steps.length} commands, ${found.length} print something else than it says`)
  for (const difference of found) console.log(`\n${difference}`)
  if (found.length > 0) process.exitCode = 1
}
