/** The packages of the workspace, in the order in which they can be built. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What a build reads of a `package.json`. */
export interface PackageManifest {
  name: string
  version: string
  bin?: Record<string, string>
  exports?: Record<string, unknown>
  imports?: Record<string, unknown>
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

/** A package of the workspace; `folder` is absolute. */
export interface WorkspacePackage {
  folder: string
  manifest: PackageManifest
}

/** Root of the repository. */
export const root = join(import.meta.dirname, '..', '..')

/** The packages that the root's `package.json` names, each after those it depends on. */
export function workspacePackages(): WorkspacePackage[] {
  const { workspaces } = readJson<{ workspaces: string[] }>(join(root, 'package.json'))
  const packages = workspaces.map((path) => ({
    folder: join(root, path),
    manifest: readJson<PackageManifest>(join(root, path, 'package.json')),
  }))
  return inOrder(packages)
}

/** Each package after those of the list that it depends on. Throws on a circle. */
export function inOrder(packages: readonly WorkspacePackage[]): WorkspacePackage[] {
  const ordered: WorkspacePackage[] = []
  const waiting = [...packages]
  while (waiting.length > 0) {
    const at = waiting.findIndex(({ manifest }) =>
      waiting.every((other) => manifest.dependencies?.[other.manifest.name] === undefined),
    )
    if (at < 0)
      throw new Error(`packages depend on each other: ${waiting.map(({ manifest }) => manifest.name).join(', ')}`)
    ordered.push(...waiting.splice(at, 1))
  }
  return ordered
}

/** Reads a JSON file. */
export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T
}

/** Whether a package has something to import, besides its own `package.json`. */
export function hasEntries({ manifest }: WorkspacePackage): boolean {
  return Object.keys(manifest.exports ?? {}).some((name) => name !== './package.json')
}

/** The pinned Node, where it is installed, or the one that runs this. */
export function nodeProgram(): string {
  const pinned = join(root, 'node_modules', '.bin', 'node')
  return existsSync(pinned) ? pinned : process.execPath
}
