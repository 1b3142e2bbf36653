/** `npm run build:binary`: the command as one file with no Node beside it, `dist/moraine-linux-x64`, from the sources, by Bun's compiler.
 *
 *  `--target=linux-arm64` and others build for another system (default: the one at hand); its Bun, which npm left out, is then fetched
 *  from the registry, in the version that is pinned here. Beside the file stands the link `qemu-img`, by whose name it is qemu-img.
 *  `--portable` takes the portable way as on macOS, for tests: `dist/moraine-linux-x64-portable`. */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { joinLate } from './build/late-modules.ts'
import { withoutSwitches } from './build/runtime-switches.ts'
import { readJson, root } from './build/workspace.ts'
import { run } from './support/run.ts'

interface Target {
  /** The package of its Bun. */
  bun: string
  bunTarget: string
  /** It makes Linux's system calls by itself; otherwise all goes through Bun's own modules. */
  system: boolean
  /** What was tried of it, where that is less than everything. */
  tried?: string
}

const targets: Readonly<Record<string, Target>> = {
  'linux-x64': { bun: '@oven/bun-linux-x64', bunTarget: 'bun-linux-x64', system: true },
  'linux-arm64': {
    bun: '@oven/bun-linux-aarch64',
    bunTarget: 'bun-linux-arm64',
    system: true,
    tried: 'run under emulation only',
  },
  'linux-x64-musl': {
    bun: '@oven/bun-linux-x64-musl',
    bunTarget: 'bun-linux-x64-musl',
    system: true,
    tried: "run with Debian's musl, not on Alpine",
  },
  'linux-arm64-musl': {
    bun: '@oven/bun-linux-aarch64-musl',
    bunTarget: 'bun-linux-arm64-musl',
    system: true,
    tried: 'never started',
  },
  'darwin-arm64': {
    bun: '@oven/bun-darwin-aarch64',
    bunTarget: 'bun-darwin-arm64',
    system: false,
    tried: 'never started: what is portable in it was run on Linux (--portable)',
  },
}

/** Those on which it is built. */
const hosts = ['linux-x64', 'linux-arm64']

/** The command itself. */
const command = join(root, 'packages', 'cli', 'src', 'standalone.ts')

/** The modules that run in threads of their own: the code finds them by these places under `packages`. */
const entries = [
  'packages/engine/src/platform/node/worker-main.ts',
  'packages/server/src/catalog/sqlite/worker.ts',
  'packages/server/src/store/hash-worker.ts',
]

/** What the engine does by Bun in another way than by Node. */
const bunPlatform = join(root, 'packages', 'engine', 'src', 'platform', 'bun')

/** Code is compiled to machine code this many times later than Bun does by itself: most commands are over before it pays. */
const jitPolicy = 5

function targetOf(name: string): Target {
  const target = Object.hasOwn(targets, name) ? targets[name] : undefined
  if (target === undefined) throw new Error(`no target ${name}; there are ${Object.keys(targets).join(', ')}`)
  return target
}

async function must(command: string, args: string[], folder: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, folder)
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`.trimEnd())
  return stdout
}

/** Bun's program from a package of the workspace, fetched where npm left it out as made for another system, in the version of the one at hand. */
async function bunOf(name: string, scratch: string): Promise<string> {
  const installed = join(root, 'node_modules', name, 'bin', 'bun')
  if (existsSync(installed)) return installed
  const { optionalDependencies } = readJson<{ optionalDependencies: Record<string, string> }>(
    join(root, 'package.json'),
  )
  const version = optionalDependencies[targetOf('linux-x64').bun]
  const packed = await must('npm', ['pack', '--silent', `${name}@${version}`], scratch)
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

const host = `${process.platform}-${process.arch}`
if (!hosts.includes(host)) throw new Error(`Bun is pinned for ${hosts.join(' and ')} only`)
const hostTarget = targetOf(host)
const name = process.argv.find((argument) => argument.startsWith('--target='))?.slice('--target='.length) ?? host
const target = targetOf(name)
const portable = process.argv.includes('--portable') || !target.system
const isForHere = name === host && !process.argv.includes('--portable')
const compiler = join(root, 'node_modules', hostTarget.bun, 'bin', 'bun')
if (!existsSync(compiler)) throw new Error(`${hostTarget.bun} is not installed: npm ci`)
const { version } = readJson<{ version: string }>(join(root, 'packages', 'cli', 'package.json'))
const dist = join(root, 'dist')
const program = `moraine-${name}${process.argv.includes('--portable') ? '-portable' : ''}`
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
    replaced: portable ? {} : { 'node:fs': join(bunPlatform, 'fs.ts'), 'node:path': join(bunPlatform, 'path.ts') },
  })
  await writeFile(joined, text)
  const first = join(scratch, 'moraine')
  await compile(first, hostTarget.bunTarget, compiler)
  const runtime = join(scratch, 'runtime')
  await writeFile(runtime, withoutSwitches(await readFile(await bunOf(target.bun, scratch))), { mode: 0o755 })
  await compile(join(dist, program), target.bunTarget, runtime, await orderOf(first, scratch))
  if (isForHere) {
    await rm(join(dist, 'qemu-img'), { force: true })
    await symlink(program, join(dist, 'qemu-img'))
  }
  const { size } = await stat(join(dist, program))
  console.log(`dist/${program}: ${(size / 2 ** 20).toFixed(0)} MiB`)
  if (name !== host) console.log('without xz, whose library npm installs for the system at hand only')
  if (name !== host && target.tried !== undefined) console.log(target.tried)
} finally {
  await rm(scratch, { recursive: true, force: true })
  await rm(joined, { force: true })
}
