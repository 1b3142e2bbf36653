/** `npm run build:binary`: the command as one file with no Node beside it, `dist/moraine-linux-x64`, from the sources, by Bun's compiler.
 *
 *  `--target=linux-arm64` builds for the other processor (default: the one at hand); its Bun, which npm left out, is then fetched
 *  from the registry, in the version that is pinned here. Beside the file stands the link `qemu-img`, by whose name it is qemu-img. */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { joinLate } from './build/late-modules.ts'
import { readJson, root } from './build/workspace.ts'
import { run } from './support/run.ts'

/** What is Bun's, and native, for each target. */
const targets = {
  'linux-x64': { bun: '@oven/bun-linux-x64', bunTarget: 'bun-linux-x64' },
  'linux-arm64': { bun: '@oven/bun-linux-aarch64', bunTarget: 'bun-linux-arm64' },
} as const

/** The command itself. */
const command = join(root, 'packages', 'cli', 'src', 'standalone.ts')

/** The modules that run in threads of their own: the code finds them by these places under `packages`. */
const entries = [
  'packages/engine/src/platform/node/worker-main.ts',
  'packages/server/src/catalog/sqlite/worker.ts',
  'packages/server/src/store/hash-worker.ts',
]

/** Code is compiled to machine code this many times later than Bun does by itself: most commands are over before it pays. */
const jitPolicy = 5

type Target = keyof typeof targets

function targetAsked(): Target {
  const host = `${process.platform}-${process.arch}`
  const asked = process.argv.find((argument) => argument.startsWith('--target='))?.slice('--target='.length) ?? host
  if (Object.hasOwn(targets, asked)) return asked as Target
  throw new Error(`no target ${asked}; there are ${Object.keys(targets).join(' and ')}`)
}

async function must(command: string, args: string[], folder: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, folder)
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`.trimEnd())
  return stdout
}

/** Bun's program from a package of the workspace, fetched where npm left it out as made for another processor. */
async function bunOf(name: string, scratch: string): Promise<string> {
  const installed = join(root, 'node_modules', name, 'bin', 'bun')
  if (existsSync(installed)) return installed
  const { optionalDependencies } = readJson<{ optionalDependencies: Record<string, string> }>(
    join(root, 'package.json'),
  )
  const packed = await must('npm', ['pack', '--silent', `${name}@${optionalDependencies[name]}`], scratch)
  await must('tar', ['-xzf', packed.trim()], scratch)
  return join(scratch, 'package', 'bin', 'bun')
}

/** Runs what was built on a small image, so that Bun notes what a start needs first, and lays that out together. */
async function orderOf(program: string, scratch: string): Promise<string> {
  const order = join(scratch, 'order')
  for (const [at, args] of [
    ['create', '-q', '-f', 'qcow2', 'a.qcow2', '64M'],
    ['map', 'a.qcow2'],
    ['convert', '-O', 'qcow2', 'a.qcow2', 'b.qcow2'],
    ['info', 'a.qcow2'],
  ].entries()) {
    await must('env', [`BUN_BYTECODE_ORDER_OUT=${order}.${at}`, program, ...args], scratch)
  }
  // The most important one first.
  return [3, 0, 1, 2].map((at) => `${order}.${at}`).join(',')
}

const target = targetAsked()
const { bun, bunTarget } = targets[target]
const host = `${process.platform}-${process.arch}`
if (!Object.hasOwn(targets, host)) throw new Error(`Bun is pinned for ${Object.keys(targets).join(' and ')} only`)
const compiler = join(root, 'node_modules', targets[host as Target].bun, 'bin', 'bun')
if (!existsSync(compiler)) throw new Error(`${targets[host as Target].bun} is not installed: npm ci`)
const { version } = readJson<{ version: string }>(join(root, 'packages', 'cli', 'package.json'))
const dist = join(root, 'dist')
const program = `moraine-${target}`
const scratch = await mkdtemp(join(tmpdir(), 'moraine-build-'))

async function compile(outfile: string, to: string, runtime: string, order?: string): Promise<void> {
  const args = [
    'build',
    '--compile',
    `--target=${to}`,
    `--compile-executable-path=${runtime}`,
    `--compile-jit-policy=${jitPolicy}`,
    // What lies in the folder where somebody works is not the program's.
    '--no-compile-autoload-dotenv',
    '--no-compile-autoload-bunfig',
    '--conditions=source',
    '--format=esm',
    // Verbs, and what formats do, are read when they are needed, compiled to bytecode.
    '--splitting',
    '--bytecode',
    '--minify',
    '--root=packages',
    `--outfile=${outfile}`,
    ...(order === undefined ? [] : [`--bytecode-order=${order}`]),
    joined,
    ...entries,
  ]
  await must(compiler, args, root)
}

// Beside the packages' own modules, so that what it names is found as from them.
const joined = join(dist, `standalone-${process.pid}.js`)

try {
  await mkdir(dist, { recursive: true })
  const text = await joinLate({
    entry: command,
    root: join(root, 'packages'),
    takenIn: ['@moraine/engine', '@moraine/engine/node'],
    conditions: ['source', 'bun', 'node', 'import'],
    define: { standaloneVersion: JSON.stringify(version) },
    replaced: {
      'node:fs': join(root, 'packages', 'engine', 'src', 'platform', 'bun', 'fs.ts'),
      'node:path': join(root, 'packages', 'engine', 'src', 'platform', 'bun', 'path.ts'),
    },
  })
  await writeFile(joined, text)
  const first = join(scratch, 'moraine')
  await compile(first, targets[host as Target].bunTarget, compiler)
  await compile(join(dist, program), bunTarget, await bunOf(bun, scratch), await orderOf(first, scratch))
  if (target === host) {
    await rm(join(dist, 'qemu-img'), { force: true })
    await symlink(program, join(dist, 'qemu-img'))
  }
  const { size } = await stat(join(dist, program))
  console.log(`dist/${program}: ${(size / 2 ** 20).toFixed(0)} MiB`)
  if (target !== host) console.log('without xz, whose library npm installs for the processor at hand only')
} finally {
  await rm(scratch, { recursive: true, force: true })
  await rm(joined, { force: true })
}
