/** A program that calls qemu-img, run twice in one folder: with the real one in its way, and with ours. What it says, how it called, and what the files that it leaves mean must be the same. */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect } from 'vitest'
import { describeWith, type RunResult, run, runOk, tool } from '../../../engine/test/support/process.ts'
import { difference } from '../differential/files.ts'
import { ourQemuImg, standalone, words } from '../support/differential.ts'

/** One of the two runs. */
export interface Run {
  /** The folder that the program works in: of the same name both times, so that names in messages, calls and images are. */
  folder: string
  /** For programs that find qemu-img by `PATH`. */
  env: NodeJS.ProcessEnv
}

/** What was seen of a run. */
export interface Seen {
  said: string
  /** The arguments of each call of qemu-img. */
  calls: string[]
}

/** What may not be compared, as it is drawn anew each time. */
export interface Settings {
  /** Replaced in what the program says and in its calls. */
  masks?: readonly [RegExp, string][]
  /** Encrypted images into which nothing was written: what they show is noise. */
  noise?: readonly string[]
  /** Files that are no images and are the program's own. */
  ignored?: RegExp
}

const home = realpathSync(mkdtempSync(join(tmpdir(), 'moraine-callers-')))
afterAll(() => rmSync(home, { recursive: true, force: true }))

/** `describe` for programs that call qemu-img under limits below which Node cannot start: with the standalone executable. */
export function describeLimited(names: readonly string[], title: string, tests: () => void): void {
  const built = existsSync(standalone.qemuImg)
  if (!built && process.env.CI === 'true') throw new Error('npm run build:binary must run first')
  if (built) describeWith(names, title, tests)
  else describe.skip(`${title} [skipped: npm run build:binary has not run]`, tests)
}

/** Both runs of a program; `prepare` fills its folder each time. Ours is the command that the tests are run with, or `ours`. */
export async function sameForCaller(
  prepare: (folder: string) => void,
  act: (run: Run) => Promise<string>,
  { masks = [], noise = [], ignored = /^$/ }: Settings = {},
  ours: string = ourQemuImg,
): Promise<Seen> {
  const folder = join(home, 'work')
  const theirFolder = join(home, 'theirs')
  rmSync(theirFolder, { recursive: true, force: true })
  const seen: Seen[] = []
  for (const program of [tool('qemu-img').path ?? 'qemu-img', ours]) {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder)
    prepare(folder)
    const log = join(home, 'calls')
    writeFileSync(log, '')
    const said = await act({ folder, env: environment(program, log, folder) })
    const mask = (text: string) => masks.reduce((masked, [from, to]) => masked.replaceAll(from, to), text)
    seen.push({ said: mask(said), calls: mask(readFileSync(log, 'utf8')).split('\n').slice(0, -1) })
    if (seen.length === 1) renameSync(folder, theirFolder)
  }
  const [theirs, our] = seen as [Seen, Seen]
  expect(our.said).toBe(theirs.said)
  expect(our.calls).toEqual(theirs.calls)
  expect(await unlikeFiles(theirFolder, folder, noise, ignored)).toEqual([])
  return theirs
}

/** In front of all others on the path: a qemu-img that writes down how it was called, and becomes `program`. */
function environment(program: string, log: string, folder: string): NodeJS.ProcessEnv {
  const bin = join(home, 'bin')
  mkdirSync(bin, { recursive: true })
  const wrapper = join(bin, 'qemu-img')
  // A line for a call, whatever its arguments have in them.
  const record = `for one in "$@"; do printf " '%s'" "$one"; done | tr '\\n' ' ' >> '${log}'; echo >> '${log}'`
  writeFileSync(wrapper, `#!/bin/sh\n${record}\nMORAINE_CALLED_AS=qemu-img exec '${program}' "$@"\n`)
  chmodSync(wrapper, 0o755)
  return { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin`, HOME: folder, LANG: 'C.UTF-8', TMPDIR: folder }
}

async function unlikeFiles(
  theirs: string,
  ours: string,
  noise: readonly string[],
  ignored: RegExp,
): Promise<readonly string[]> {
  const names = (folder: string) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
      (name) => !ignored.test(name) && statSync(join(folder, name)).isFile(),
    )
  const found: string[] = []
  const our = new Set(names(ours))
  for (const name of new Set([...names(theirs), ...our])) {
    if (!our.has(name) || !existsSync(join(theirs, name))) {
      found.push(`${name}: only ${our.has(name) ? 'with ours' : 'with the real one'}`)
      continue
    }
    const told = await difference(theirs, ours, name, noise.includes(name))
    if (told !== undefined && !told.layout) found.push(told.text)
  }
  return found
}

let images: Promise<string> | undefined

/** Copies the images that programs are shown into a folder. */
export async function withImages(): Promise<(folder: string) => void> {
  images ??= makeImages()
  const made = await images
  return (folder) => cpSync(made, folder, { recursive: true })
}

async function makeImages(): Promise<string> {
  const folder = join(home, 'images')
  mkdirSync(folder)
  const data = Buffer.alloc(6 << 20)
  for (let at = 70_000; at < 400_000; at++) data[at] = (at * at) >> 7
  data.fill(0x55, 4 << 20, 5 << 20)
  writeFileSync(join(folder, 'is-data.raw'), data)
  const secret = '--object secret,id=s,data=horse'
  for (const line of [
    'convert -O qcow2 is-data.raw is-data.qcow2',
    'create -f qcow2 is-small.qcow2 2M',
    'create -f qcow2 -b is-data.qcow2 -F qcow2 is-overlay.qcow2 16M',
    'convert -O qcow2 -o compat=0.10 is-data.raw is-snapshots.qcow2',
    'snapshot -c first is-snapshots.qcow2',
    'convert -c -O qcow2 -o cluster_size=128k,lazy_refcounts=on is-data.raw is-packed.qcow2',
    'create -f qcow2 -o data_file=data-of-external is-external.qcow2 2M',
    `create ${secret} -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 is-encrypted.qcow2 2M`,
    `create ${secret} -f luks -o key-secret=s,iter-time=10 is-key.luks 2M`,
    'convert -O vmdk -o subformat=streamOptimized is-data.raw is-stream.vmdk',
    'convert -O vmdk is-data.raw is-sparse.vmdk',
    'convert -O vpc is-data.raw is-dynamic.vpc',
    'convert -O vdi is-data.raw is-d.vdi',
    'convert -O vhdx is-data.raw is-d.vhdx',
    'convert -O qed is-data.raw is-d.qed',
  ]) {
    await patiently(words(line), folder)
  }
  writeFileSync(join(folder, 'is-damaged.qcow2'), readFileSync(join(folder, 'is-data.qcow2')).subarray(0, 60))
  writeFileSync(join(folder, 'is-empty.raw'), '')
  return folder
}

/** Again where the time for a new key slot could not be measured: on a busy machine that fails by chance. */
async function patiently(args: string[], cwd: string): Promise<void> {
  const path = tool('qemu-img').path ?? 'qemu-img'
  let result: RunResult
  do result = await run(path, args, { cwd })
  while (result.stderr.includes('Unable to get accurate CPU usage'))
  if (result.code !== 0) throw new Error(`qemu-img ${args.join(' ')}: ${result.stderr}`)
}

/** Runs one of the scripts here, which call the functions of a Python program step by step; what they print. */
export async function steps(script: string, { folder, env }: Run): Promise<string> {
  const path = join(import.meta.dirname, `${script}_steps.py`)
  const { MORAINE_BUDGET, MORAINE_SEED } = process.env
  const quiet = { ...env, MORAINE_BUDGET, MORAINE_SEED, PYTHONDONTWRITEBYTECODE: '1', PYTHONWARNINGS: 'ignore' }
  return runOk('/usr/bin/python3', [path], { cwd: folder, env: quiet, timeout: 300_000 })
}
