/** Debian's own kernels, fetched by apt-get and unpacked, not installed. They are kept from run to run in the folder for temporary files. */
import { type ExecFileSyncOptionsWithStringEncoding, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tool } from './process.ts'

/** A kernel: its image, its modules, its release as `uname -r` would say. */
export interface DebianKernel {
  release: string
  image: string
  /** The folder of its modules. */
  modules: string
}

/** The kernel for clouds, as this machine's Debian has it for a processor; undefined, with the reason on the console, where it cannot be had. With CI=true that is an error. */
export function debianKernel(architecture: 'amd64' | 'arm64' = 'amd64'): DebianKernel | undefined {
  try {
    return fetched(architecture)
  } catch (error) {
    if (process.env.CI === 'true') throw error
    console.info(`no kernel of Debian: ${(error as Error).message.split('\n')[0]}`)
    return undefined
  }
}

const quiet: ExecFileSyncOptionsWithStringEncoding = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }

function program(name: string): string {
  const { path } = tool(name)
  if (path === undefined) throw new Error(`${name} is not installed`)
  return path
}

/** The package that the name of all kernels for clouds leads to. */
function packageOf(architecture: string, options: readonly string[]): string | undefined {
  try {
    const depends = execFileSync(
      program('apt-cache'),
      [...options, 'depends', `linux-image-cloud-${architecture}`],
      quiet,
    )
    return /Depends: (linux-image-\S+)/.exec(depends)?.[1]
  } catch {
    return undefined
  }
}

/** Lists of packages of its own, for a processor that is not this machine's: what is installed here is left alone. */
function ownLists(architecture: string, folder: string): string[] {
  for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(folder, name), { recursive: true })
  writeFileSync(join(folder, 'status'), '')
  const settings = {
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': join(folder, 'cache'),
    'APT::Architecture': architecture,
    'APT::Architectures::': architecture,
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  execFileSync(program('apt-get'), [...options, 'update', '-qq'], { ...quiet, timeout: 300_000 })
  return options
}

function fetched(architecture: 'amd64' | 'arm64'): DebianKernel {
  const work = mkdtempSync(join(tmpdir(), 'moraine-test-fetch-'))
  try {
    const own = architecture === process.arch.replace('x64', 'amd64') ? packageOf(architecture, []) : undefined
    const known = own ?? keptName(architecture)
    const options = known === undefined ? ownLists(architecture, work) : []
    const name = known ?? packageOf(architecture, options)
    if (name === undefined) throw new Error(`linux-image-cloud-${architecture} is not known to apt-cache`)
    const release = name.slice('linux-image-'.length)
    const kept = join(tmpdir(), `${keptPrefix}${release}`)
    if (!existsSync(kept)) {
      execFileSync(program('apt-get'), [...options, 'download', '-qq', name], { ...quiet, cwd: work, timeout: 300_000 })
      const archive = readdirSync(work).find((file) => file.endsWith('.deb'))
      if (archive === undefined) throw new Error(`${name} was not fetched`)
      mkdirSync(join(work, 'all'))
      execFileSync(program('dpkg'), ['-x', join(work, archive), join(work, 'all')], quiet)
      // Of two that come at once one is enough.
      if (!existsSync(kept)) renameSync(join(work, 'all'), kept)
    }
    const modules = [join(kept, 'usr/lib/modules', release), join(kept, 'lib/modules', release)].find(existsSync)
    if (modules === undefined) throw new Error(`${name} has no modules`)
    return { release, image: join(kept, 'boot', `vmlinuz-${release}`), modules }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const keptPrefix = 'moraine-test-kernel-'

/** A package that an earlier run has kept. */
function keptName(architecture: string): string | undefined {
  const found = readdirSync(tmpdir()).find(
    (name) => name.startsWith(keptPrefix) && name.endsWith(`cloud-${architecture}`),
  )
  return found === undefined ? undefined : `linux-image-${found.slice(keptPrefix.length)}`
}
