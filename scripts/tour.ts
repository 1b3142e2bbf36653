/** `npm run tour`: runs the commands of the README's tour, in one shell and a folder of its own, beside a fresh image service, and compares
 *  what they print with what the README says. `--write` puts what they printed into the README instead. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './build/workspace.ts'
import { differences, readTour, writeTour } from './tour/page.ts'
import { runTour } from './tour/run.ts'

const path = join(root, 'README.md')
const readme = readFileSync(path, 'utf8')
const steps = readTour(readme)
const outputs = await runTour(root, steps)
if (process.argv.includes('--write')) {
  writeFileSync(path, writeTour(readme, outputs))
  console.log(`tour: ${steps.length} commands, written`)
} else {
  const found = differences(steps, outputs)
  console.log(found.length === 0 ? `tour: ${steps.length} commands, all as the README says` : found.join('\n\n'))
  process.exitCode = found.length === 0 ? 0 : 1
}
