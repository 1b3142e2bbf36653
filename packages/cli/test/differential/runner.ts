/** Runs one command line through the real qemu-img and through ours, and tells in what they differ. */
import { rmSync } from 'node:fs'
import { type RunResult, run, tool } from '../../../engine/test/support/process.ts'
import { compared, words } from '../support/differential.ts'
import { difference } from './files.ts'
import { listing, type Originals } from './folder.ts'
import { filesOf } from './images.ts'

/** In what two runs may differ. */
export type Aspect = 'exit code' | 'stdout' | 'stderr' | 'files' | 'layout'

/** What was seen of one run. */
export interface Answer {
  code: number | string
  stdout: string
  stderr: string
}

/** Both runs of a line. */
export interface Outcome {
  theirs: Answer
  ours: Answer
  /** What differs, each in a line or more of text. */
  differences: Map<Aspect, string>
}

const patience = 20_000

/** Runs a line in two folders with copies of the fixtures that it names. */
export async function runBoth(line: string, originals: Originals): Promise<Outcome> {
  const args = words(line)
  const files = filesOf(args)
  const [theirFolder, ourFolder] = [originals.copies(files), originals.copies(files)]
  try {
    return await runBothIn(args, theirFolder, ourFolder)
  } finally {
    rmSync(theirFolder, { recursive: true })
    rmSync(ourFolder, { recursive: true })
  }
}

/** Runs a line in two folders that hold the same, and compares what is there afterwards. */
export async function runBothIn(args: string[], theirFolder: string, ourFolder: string): Promise<Outcome> {
  const [their, our] = await Promise.all([theirRun(args, theirFolder), ourRun(args, ourFolder)])
  const [theirs, ours] = [answer(their, theirFolder), answer(our, ourFolder)]
  const differences = new Map<Aspect, string>()
  if (theirs.code !== ours.code) differences.set('exit code', `- ${theirs.code}\n+ ${ours.code}`)
  for (const stream of ['stdout', 'stderr'] as const) {
    if (theirs[stream] !== ours[stream]) differences.set(stream, unlike(theirs[stream], ours[stream]))
  }
  for (const [aspect, text] of await unlikeFiles(theirFolder, ourFolder, args[0] === 'create'))
    differences.set(aspect, text)
  return { theirs, ours, differences }
}

const env = { ...process.env, LC_ALL: 'C', MORAINE_CALLED_AS: 'qemu-img' }

/** Again when a new key slot could not be timed: on a busy machine that fails by chance. */
async function theirRun(args: string[], cwd: string): Promise<RunResult> {
  for (let turn = 0; ; turn++) {
    const result = await run(tool('qemu-img').path ?? 'qemu-img', args, { cwd, env, timeout: patience })
    if (turn > 100 || !result.stderr.includes('Unable to get accurate CPU usage')) return result
  }
}

function ourRun(args: string[], cwd: string): Promise<RunResult> {
  return run(compared.program, [...compared.args, ...args], { cwd, env, timeout: patience })
}

function answer({ code, signal, timedOut, stdout, stderr }: RunResult, folder: string): Answer {
  return {
    code: timedOut ? 'killed, as it did not end' : (signal ?? code),
    stdout: settled(stdout, folder),
    stderr: settled(stderr, folder),
  }
}

/** Without times, folders of the test, and names that QEMU numbers by itself. */
function settled(text: string, folder: string): string {
  return text.replaceAll(folder, '/folder').replaceAll(/completed in [\d.]+ seconds/g, 'completed in … seconds')
}

function unlike(theirs: string, ours: string): string {
  const [their, our] = [theirs.split('\n'), ours.split('\n')]
  const minus = their.filter((text) => !our.includes(text)).map((text) => `- ${text}`)
  const plus = our.filter((text) => !their.includes(text)).map((text) => `+ ${text}`)
  const shown = [...minus, ...plus].slice(0, 24)
  return shown.length > 0 ? shown.join('\n') : `- ${JSON.stringify(theirs)}\n+ ${JSON.stringify(ours)}`
}

/** Files that only one left, or that say something else (`files`), and those that say the same with other bytes (`layout`). */
async function unlikeFiles(theirFolder: string, ourFolder: string, isNew: boolean): Promise<Map<Aspect, string>> {
  const [their, our] = [listing(theirFolder), listing(ourFolder)]
  const found = new Map<Aspect, string>()
  const add = (aspect: Aspect, text: string) => found.set(aspect, `${found.get(aspect) ?? ''}${text}\n`)
  for (const name of new Set([...their.keys(), ...our.keys()])) {
    const [a, b] = [their.get(name), our.get(name)]
    if (a === undefined || b === undefined || a !== b) {
      add('files', `- ${name}: ${a ?? 'absent'}\n+ ${name}: ${b ?? 'absent'}`)
    } else if (a === 'file') {
      const told = await difference(theirFolder, ourFolder, name, isNew)
      if (told !== undefined) add(told.layout ? 'layout' : 'files', told.text)
    }
  }
  return found
}
