/** `npm run complete-lock`, after `npm install` changed the lock: adds the optional native packages that npm left out.
 *
 *  npm drops an optional package from the lock when the registry it was asked from does not carry it, as many mirrors do for systems
 *  they are not made for; and `npm ci`, against any registry, then refuses the lock as incomplete. What an entry must say (version,
 *  system, processor, C library) stands in the package's name and in the one that wants it. There is no hash in such an entry; npm adds
 *  it on a machine that installs the package.
 *
 *  And it takes away what optional packages say of the Node that they want: npm would leave them out where it runs under the machine's older Node, though they
 *  run under the pinned one. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findLocked, fussyOptional, type LockedPackage, missingOptional } from './check/lock.ts'

const systems = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32']
const processors = ['arm64', 'arm', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64']

/** The entry of a native package that was left out, by its name and the entry that wants it. */
function nativeEntry(name: string, version: string, parent: LockedPackage): LockedPackage {
  const words = name.split('/').at(-1)?.split(/[-_.]/) ?? []
  const system = systems.find((word) => words.includes(word))
  const processor = processors.find((word) => words.includes(word))
  if (system === undefined || processor === undefined) throw new Error(`${name} does not name its system and processor`)
  const library = words.includes('musl') || words.includes('musleabihf') ? 'musl' : 'glibc'
  const named = words.some((word) => /^(musl|gnu)/.test(word))
  return {
    version,
    cpu: [processor],
    ...(parent.dev === true ? { dev: true } : {}),
    ...(system === 'linux' && named ? { libc: [library] } : {}),
    ...(parent.license === undefined ? {} : { license: parent.license }),
    optional: true,
    os: [system],
  }
}

const path = join(import.meta.dirname, '..', 'package-lock.json')
const lock = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, LockedPackage> }
for (const { wantedBy, name } of missingOptional(lock.packages)) {
  const parent = lock.packages[wantedBy] ?? {}
  const version = parent.optionalDependencies?.[name] ?? ''
  if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`${wantedBy} wants ${name} ${version}, which is not one version`)
  const beside = `node_modules/${name}`
  const at = findLocked(lock.packages, '', name) === undefined ? beside : `${wantedBy}/${beside}`
  lock.packages[at] = nativeEntry(name, version, parent)
  console.log(`${at} ${version}`)
}
for (const name of fussyOptional(lock.packages)) delete lock.packages[name]?.engines
const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en'))
writeFileSync(path, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, undefined, 2)}\n`)
