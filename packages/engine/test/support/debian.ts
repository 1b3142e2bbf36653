/** Debian's own kernels, fetched by apt-get and unpacked, not installed. They are kept from run to run in the folder for temporary files. */
import { type ExecFileSyncOptionsWithStringEncoding, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
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

/** The kernel for clouds of this machine's Debian; undefined, with the reason on the console, where it cannot be had. With CI=true that is an error. */
export function debianKernel(): DebianKernel | undefined {
  try {
    return fetched()
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

function fetched(): DebianKernel {
  const depends = execFileSync(program('apt-cache'), ['depends', 'linux-image-cloud-amd64'], quiet)
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
  if (name === undefined) throw new Error('linux-image-cloud-amd64 is not known to apt-cache')
  const release = name.slice('linux-image-'.length)
  const kept = join(tmpdir(), `moraine-test-kernel-${release}`)
  if (!existsSync(kept)) {
    const work = mkdtempSync(`${kept}-`)
    try {
      execFileSync(program('apt-get'), ['download', '-qq', name], { ...quiet, cwd: work, timeout: 300_000 })
      const archive = readdirSync(work).find((file) => file.endsWith('.deb'))
      if (archive === undefined) throw new Error(`${name} was not fetched`)
      mkdirSync(join(work, 'all'))
      execFileSync(program('dpkg'), ['-x', join(work, archive), join(work, 'all')], quiet)
      // Of two that come at once one is enough.
      if (!existsSync(kept)) renameSync(join(work, 'all'), kept)
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  }
  const modules = [join(kept, 'usr/lib/modules', release), join(kept, 'lib/modules', release)].find(existsSync)
  if (modules === undefined) throw new Error(`${name} has no modules`)
  return { release, image: join(kept, 'boot', `vmlinuz-${release}`), modules }
}
