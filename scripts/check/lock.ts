/** The lock file: complete, and without the addresses of one machine's registry. */
import type { Problem } from './problem.ts'

/** What is read of an entry of `package-lock.json`. */
export interface LockedPackage {
  version?: string
  dev?: boolean
  optional?: boolean
  license?: string
  os?: string[]
  cpu?: string[]
  libc?: string[]
  engines?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

/** The lock names packages by version and hash, never by the address they were fetched from, and holds every optional package for every
 *  system: `npm ci` refuses a lock that does not. */
export function checkLock(path: string, text: string): Problem[] {
  const problems: Problem[] = []
  for (const [index, line] of text.split('\n').entries()) {
    const address = /"resolved": "([a-z+]+:[^"]*)"/.exec(line)?.[1]
    if (address === undefined) continue
    problems.push({ file: path, line: index + 1, rule: 'lock-resolved', message: `an address is written: ${address}` })
  }
  const { packages = {} } = JSON.parse(text) as { packages?: Record<string, LockedPackage> }
  for (const { wantedBy, name } of missingOptional(packages)) {
    const message = `\`${name}\`, which \`${wantedBy || 'the root'}\` wants, is not locked: run \`npm run complete-lock\``
    problems.push({ file: path, line: 1, rule: 'lock-optional', message })
  }
  for (const name of fussyOptional(packages)) {
    const message = `\`${name}\` is left out where the machine's own Node is old: run \`npm run complete-lock\``
    problems.push({ file: path, line: 1, rule: 'lock-engines', message })
  }
  return problems
}

/** Optional packages that ask for a Node. npm looks at the one that it runs under and leaves the package out without a word, but the one that the package will run
 *  under is the pinned one. */
export function fussyOptional(packages: Record<string, LockedPackage>): string[] {
  return Object.entries(packages).flatMap(([name, { optional, engines }]) =>
    optional === true && engines?.node !== undefined ? [name] : [],
  )
}

/** Optional dependencies that have no entry. */
export function missingOptional(packages: Record<string, LockedPackage>): { wantedBy: string; name: string }[] {
  return Object.entries(packages).flatMap(([wantedBy, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => findLocked(packages, wantedBy, name, optionalDependencies[name]) === undefined)
      .map((name) => ({ wantedBy, name })),
  )
}

/** The entry that Node would find for `name` from the package locked at `at`. With an exact `version`, an entry of another one does not
 *  count. */
export function findLocked(
  packages: Record<string, LockedPackage>,
  at: string,
  name: string,
  version?: string,
): LockedPackage | undefined {
  const exact = version !== undefined && /^\d+\.\d+\.\d+$/.test(version)
  for (let base = at; ; base = parentOf(base)) {
    const found = packages[base === '' ? `node_modules/${name}` : `${base}/node_modules/${name}`]
    if (found !== undefined) return exact && found.version !== version ? undefined : found
    if (base === '') return undefined
  }
}

/** `a/node_modules/b/node_modules/c` stands in `a/node_modules/b`; what stands in no package stands in the root. */
function parentOf(at: string): string {
  return at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))
}
