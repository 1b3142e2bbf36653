/** What is read in the text of every file of the project: its length, and words that belong to one machine only. */
import type { Problem } from './problem.ts'

/** A source file longer than this wants a second room. */
export const longestFile = 500

/** A file of the project; `path` is relative to the root. */
export interface TextFile {
  path: string
  text: string
}

/** TypeScript files over `longestFile` lines. */
export function checkLengths(files: readonly TextFile[]): Problem[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
    if (!path.endsWith('.ts') || lines <= longestFile) return []
    const message = `${lines} lines, at most ${longestFile}: the file wants a second room`
    return [{ file: path, line: longestFile + 1, rule: 'file-length', message }]
  })
}

/** What the machine that runs the check could leave behind in a file. */
export interface MachineFacts {
  /** Absolute folders: the checkout, the home folder, the temporary folder. */
  folders: readonly string[]
  /** Hosts of package registries that npm is set to. */
  hosts: readonly string[]
}

/** A path starts at the line's start or after something that no path has before it. */
const before = String.raw`(?<![\w.~@}$*/-])`

/** Folders that are somebody's, or one machine's, wherever a path starts with them. */
const privateFolders = new RegExp(`${before}/(?:home|Users|root|work|builds?|tmp|var/tmp)/[\\w.-]`)

/** Hosts of the usual registries, public or mirrored. */
const registryHosts =
  /\b(?:registry|npm|mirrors?|deb|archive|security)\.(?:[a-z0-9-]+\.)*(?:npmjs|npmmirror|yarnpkg|debian|ubuntu)\.(?:org|com)\b/

/** Paths of a machine and hosts of registries: a clone must not know where it was written. */
export function checkWords(files: readonly TextFile[], facts: MachineFacts): Problem[] {
  // A folder of one segment (`/app`) would be found in half of all paths.
  const folders = facts.folders.filter((folder) => folder.split('/').filter(Boolean).length >= 2)
  const literal =
    folders.length === 0 ? undefined : new RegExp(`${before}(?:${folders.map(escapePattern).join('|')})(?![\\w-])`)
  const hosts = facts.hosts.filter((host) => host.includes('.') || host.includes(':'))

  return files.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, index) => {
      const found = (rule: string, what: string): Problem[] => [
        { file: path, line: index + 1, rule, message: `\`${what.slice(0, 80)}\`` },
      ]
      const folder = privateFolders.exec(line)?.[0] ?? literal?.exec(line)?.[0]
      if (folder !== undefined)
        return found('machine-path', line.slice(line.indexOf(folder)).split(/[\s'"`,;)]/)[0] ?? folder)
      const host = registryHosts.exec(line)?.[0] ?? hosts.find((name) => line.includes(name))
      if (host !== undefined) return found('registry-host', host)
      return []
    }),
  )
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
