/** The differential harness: the same arguments go through the real qemu-img and through ours, and everything that can be seen must be equal. */
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { launcher } from '../../../engine/test/support/launcher.ts'
import { projectRoot, type RunResult, type RunSettings, run, tool } from '../../../engine/test/support/process.ts'
import { isDrawn } from '../../../engine/test/support/random.ts'

/** What `npm run build:binary` makes: the standalone executable, and the link by whose name it is qemu-img. */
export const standalone = {
  moraine: join(projectRoot, 'dist', `moraine-linux-${process.arch}`),
  qemuImg: join(projectRoot, 'dist', 'qemu-img'),
}

const testsStandalone = process.env.MORAINE_COMMAND === 'binary'

/** Our stand-in, by its name. */
export const ourQemuImg = testsStandalone ? standalone.qemuImg : launcher('qemu-img')

/** The command under its own name: from its sources or, with `MORAINE_COMMAND=built`, as it was built, which starts in a quarter of the time (CI builds first and does that); with
 *  `MORAINE_COMMAND=binary` the standalone executable. */
export const moraine = testsStandalone ? standalone.moraine : launcher('moraine')

/** The launchers that users of a checkout have, or the standalone executable: they find out by which name they are called. */
export const launchers = testsStandalone
  ? standalone
  : { moraine: join(projectRoot, 'bin', 'moraine'), qemuImg: join(projectRoot, 'bin', 'qemu-img') }

/** What is compared with qemu-img, some thousand times: without a shell before it. */
export const compared =
  process.env.MORAINE_COMMAND === 'built'
    ? { program: process.execPath, args: [join(projectRoot, 'packages/cli/dist/main.js')] }
    : { program: ourQemuImg, args: [] }

/** What can be seen of a run. */
interface Seen {
  code: number
  stdout: string
  stderr: string
}

function seen({ code, stdout, stderr }: RunResult): Seen {
  return { code, stdout, stderr }
}

/** Splits at blanks; '…' keeps them. Enough for the arguments of tests. */
export function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
}

/** How one case is run. */
export interface CaseOptions {
  /** Changes what was seen before it is compared, where a run cannot be repeated exactly (process numbers, times). */
  normalize?: (text: string) => string
  /** Also compare the files that are left: the same names with the same bytes. Default for `sameOnCopies`. */
  files?: boolean
  env?: Record<string, string>
}

/** A folder of images made by QEMU's own tools. */
export class Fixtures {
  readonly folder: string

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'moraine-diff-'))
    afterAll(() => rmSync(this.folder, { recursive: true, force: true }))
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Runs the real qemu-img here. */
  async qemuImg(line: string): Promise<void> {
    await this.must('qemu-img', words(line))
  }

  /** Runs the real qemu-io here: a file and commands such as `write -P 1 0 64k`. */
  async qemuIo(file: string, ...commands: string[]): Promise<void> {
    await this.must('qemu-io', [...commands.flatMap((command) => ['-c', command]), file])
  }

  private async must(name: string, args: string[]): Promise<void> {
    const result =
      name === 'qemu-img'
        ? await runPatiently(args, { cwd: this.folder })
        : await run(tool(name).path ?? name, args, { cwd: this.folder })
    if (result.code !== 0) throw new Error(`${name} ${args.join(' ')}: ${result.stdout}${result.stderr}`)
  }

  /** A test: both programs, in this folder itself. For verbs that change nothing. */
  same(line: string | string[], options: CaseOptions = {}): void {
    const args = typeof line === 'string' ? words(line) : line
    if (!isDrawn(title(args))) return
    it(title(args), async () => {
      const [theirs, ours] = await bothIn(this.folder, this.folder, [args], options)
      expect(ours).toEqual(theirs)
    })
  }

  /** A test: both programs, each in a folder of its own with copies of some fixtures. Several lines are run one after the other. */
  sameOnCopies(files: string, lines: string | (string | string[])[], options: CaseOptions = {}): void {
    const calls = (typeof lines === 'string' ? [lines] : lines).map((line) =>
      typeof line === 'string' ? words(line) : line,
    )
    if (!isDrawn(calls.map(title).join('; '))) return
    it(calls.map(title).join('; '), async () => {
      const theirFolder = this.copies(words(files))
      const ourFolder = this.copies(words(files))
      try {
        const [theirs, ours] = await bothIn(theirFolder, ourFolder, calls, options)
        expect(ours).toEqual(theirs)
        if (options.files !== false) expect(listing(ourFolder)).toEqual(listing(theirFolder))
      } finally {
        rmSync(theirFolder, { recursive: true })
        rmSync(ourFolder, { recursive: true })
      }
    })
  }

  private copies(names: string[]): string {
    const folder = mkdtempSync(join(tmpdir(), 'moraine-copy-'))
    for (const name of names) {
      const [parent] = name.split('/').slice(0, -1)
      if (parent !== undefined) mkdirSync(join(folder, parent), { recursive: true })
      copyFileSync(this.path(name), join(folder, name))
    }
    return folder
  }
}

function title(args: string[]): string {
  return args.length === 0
    ? '(no arguments)'
    : args.map((arg) => (/^[\w\-=.,/:+]+$/.test(arg) ? arg : JSON.stringify(arg))).join(' ')
}

/** Runs the real qemu-img, again when it could not measure the processor for a new key slot: on a busy machine that fails by chance. */
async function runPatiently(args: string[], settings: RunSettings): Promise<RunResult> {
  for (let turn = 0; ; turn++) {
    const result = await run(tool('qemu-img').path ?? 'qemu-img', args, settings)
    if (turn > 100 || !result.stderr.includes('Unable to get accurate CPU usage')) return result
  }
}

async function bothIn(
  theirFolder: string,
  ourFolder: string,
  calls: string[][],
  { normalize = (text) => text, env = {} }: CaseOptions,
): Promise<[Seen[], Seen[]]> {
  const theirs: Seen[] = []
  const ours: Seen[] = []
  const settings = { env: { ...process.env, LC_ALL: 'C', MORAINE_CALLED_AS: 'qemu-img', ...env } }
  for (const args of calls) {
    const their = await runPatiently(args, { ...settings, cwd: theirFolder })
    const our = await run(compared.program, [...compared.args, ...args], { ...settings, cwd: ourFolder })
    for (const [list, result] of [
      [theirs, their],
      [ours, our],
    ] as const) {
      const { code, stdout, stderr } = seen(result)
      list.push({ code, stdout: normalize(stdout), stderr: normalize(stderr) })
    }
  }
  return [theirs, ours]
}

/** Names, kinds, lengths and hashes of all files of a folder. */
function listing(folder: string): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, name)
    const stats = lstatSync(path)
    if (stats.isSymbolicLink()) found[name] = `link to ${readlinkSync(path)}`
    else if (stats.isDirectory()) found[name] = 'folder'
    else found[name] = `${stats.size} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
  }
  return found
}
