/** The floors of the house: who may import whom, in the engine and between the packages. */
import { isBuiltin } from 'node:module'
import { posix } from 'node:path'
import type { Problem } from './problem.ts'
import type { Import, SourceFile } from './sources.ts'

/** The rooms of the engine; each imports from itself and from what stands before it. */
export const engineRooms = [
  'core',
  'bytes',
  'codec',
  'crypt',
  'platform',
  'source',
  'format',
  'container',
  'guest',
  'inspect',
  'operation',
] as const

/** Which packages of the workspace a package may import. */
export const packageFloors: Readonly<Record<string, readonly string[]>> = {
  engine: [],
  nbd: ['engine'],
  'cloud-images': ['engine'],
  server: ['engine', 'nbd', 'cloud-images'],
  console: ['engine'],
  cli: ['engine', 'nbd', 'cloud-images', 'server', 'console'],
}

/** What the checks read of a package's `package.json`. */
export interface Manifest {
  name: string
  dependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
  peerDependenciesMeta?: Record<string, { optional?: boolean }>
  optionalDependencies?: Record<string, string>
  imports?: Record<string, Target>
}

type Target = string | { [condition: string]: Target }

/** A package of the workspace: its folder's name, its manifest, and the parsed files under its `src`. */
export interface Package {
  folder: string
  manifest: Manifest
  files: readonly SourceFile[]
}

interface Edge {
  from: SourceFile
  to: string
  via: Import
}

/** All rules of the floors over the whole workspace. */
export function checkFloors(packages: readonly Package[]): Problem[] {
  const problems = packages.flatMap((pkg) => [...checkPackageFloor(pkg, packages), ...checkCircles(pkg)])
  const engine = packages.find(({ folder }) => folder === 'engine')
  if (engine !== undefined) {
    problems.push(
      ...checkRooms(engine),
      ...checkNodeImports(engine),
      ...checkBrowserEntry(engine),
      ...checkNoRequiredDependency(engine),
    )
  }
  return problems
}

/** Where an import leads within its package: nothing for another package. A `#name` leads to every target of the package's
 *  `imports` that fits `conditions`, or to all of them without conditions. */
function resolve(pkg: Package, from: string, { specifier }: Import, conditions?: readonly string[]): string[] {
  const root = `packages/${pkg.folder}`
  if (specifier.startsWith('.')) return [posix.normalize(posix.join(posix.dirname(from), specifier))]
  if (!specifier.startsWith('#')) return []
  const target = pkg.manifest.imports?.[specifier]
  if (target === undefined) return [`${root}/${specifier}`]
  const found = conditions === undefined ? everyTarget(target) : [firstTarget(target, conditions)]
  return found.filter((path) => path !== undefined).map((path) => posix.normalize(posix.join(root, path)))
}

function everyTarget(target: Target): string[] {
  const all = typeof target === 'string' ? [target] : Object.values(target).flatMap(everyTarget)
  return all.filter((path) => path.endsWith('.ts'))
}

function firstTarget(target: Target, conditions: readonly string[]): string | undefined {
  if (typeof target === 'string') return target
  for (const [condition, inner] of Object.entries(target)) {
    if (condition !== 'default' && !conditions.includes(condition)) continue
    const found = firstTarget(inner, conditions)
    if (found !== undefined) return found
  }
  return undefined
}

function edgesOf(pkg: Package, conditions?: readonly string[]): Edge[] {
  return pkg.files.flatMap((from) =>
    from.imports.flatMap((via) => resolve(pkg, from.path, via, conditions).map((to) => ({ from, to, via }))),
  )
}

function roomOf(path: string): string | undefined {
  const inside = /^packages\/engine\/src\/([^/]+)\//.exec(path)
  return inside?.[1]
}

/** No import from a room to one that stands after it, and none from a room to the faces (`index.ts`, `node.ts`) above all of them. */
function checkRooms(engine: Package): Problem[] {
  const problems: Problem[] = []
  const order: readonly string[] = engineRooms
  for (const { path } of engine.files) {
    const room = roomOf(path)
    if (room !== undefined && !order.includes(room)) {
      problems.push({ file: path, line: 1, rule: 'unknown-room', message: `\`${room}\` is no room of the engine` })
    }
  }
  for (const { from, to, via } of edgesOf(engine)) {
    const room = roomOf(from.path)
    if (room === undefined || !order.includes(room)) continue
    const other = roomOf(to)
    if (other !== undefined && order.indexOf(other) <= order.indexOf(room)) continue
    const message = `\`${room}\` must not import \`${other ?? to}\` (${via.specifier})`
    problems.push({ file: from.path, line: via.line, rule: 'import-upward', message })
  }
  return problems
}

/** What belongs to Node, or to another package, stands in `platform/node` and in `node.ts` only; what belongs to Bun, which has Node's modules too, in `platform/bun`. */
function checkNodeImports(engine: Package): Problem[] {
  const problems: Problem[] = []
  for (const { path, imports } of engine.files) {
    if (path.startsWith('packages/engine/src/platform/node/') || path === 'packages/engine/src/node.ts') continue
    for (const { specifier, line } of imports) {
      if (specifier.startsWith('.') || specifier.startsWith('#')) continue
      const bunHasIt = specifier.startsWith('bun:') || isBuiltin(specifier)
      if (path.startsWith('packages/engine/src/platform/bun/') && bunHasIt) continue
      const rule = isBuiltin(specifier) ? 'node-import' : 'package-import'
      problems.push({ file: path, line, rule, message: `\`${specifier}\` is imported outside platform/node` })
    }
  }
  return problems
}

/** From the browser entry, with `#platform` taken as a browser takes it, nothing of Node and no other package can be reached. */
function checkBrowserEntry(engine: Package): Problem[] {
  const entry = 'packages/engine/src/index.ts'
  const files = new Map(engine.files.map((file) => [file.path, file]))
  const problems: Problem[] = []
  const trail = new Map<string, string | undefined>([[entry, undefined]])
  const queue = [entry]
  for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
    const file = files.get(path)
    if (file === undefined) {
      const from = trail.get(path) ?? path
      problems.push({ file: from, line: 1, rule: 'browser-entry', message: `${path}, reachable from it, is not there` })
      continue
    }
    for (const via of file.imports) {
      const targets = resolve(engine, path, via, ['browser', 'source', 'import'])
      if (targets.length === 0) {
        const message = `\`${via.specifier}\` is reachable from the browser entry: ${chainTo(trail, path)}`
        problems.push({ file: path, line: via.line, rule: 'browser-entry', message })
      }
      for (const target of targets) {
        if (trail.has(target)) continue
        trail.set(target, path)
        queue.push(target)
      }
    }
  }
  return problems
}

function chainTo(trail: ReadonlyMap<string, string | undefined>, path: string): string {
  const chain: string[] = []
  for (let at: string | undefined = path; at !== undefined; at = trail.get(at)) {
    chain.unshift(at.replace('packages/engine/src/', ''))
  }
  return chain.join(' > ')
}

/** The engine is installed alone: no dependency, and no peer that is not optional. */
function checkNoRequiredDependency({ manifest }: Package): Problem[] {
  const { dependencies = {}, optionalDependencies = {}, peerDependencies = {}, peerDependenciesMeta = {} } = manifest
  const required = [
    ...Object.keys(dependencies),
    ...Object.keys(optionalDependencies),
    ...Object.keys(peerDependencies).filter((name) => peerDependenciesMeta[name]?.optional !== true),
  ]
  return required.map((name) => ({
    file: 'packages/engine/package.json',
    line: 1,
    rule: 'required-dependency',
    message: `the engine must not depend on \`${name}\``,
  }))
}

/** A package imports packages below it, by name, and what its manifest names. */
function checkPackageFloor(pkg: Package, packages: readonly Package[]): Problem[] {
  const problems: Problem[] = []
  const allowed = packageFloors[pkg.folder]
  const root = `packages/${pkg.folder}/`
  if (allowed === undefined) {
    const message = `\`${pkg.folder}\` has no floor: add it to packageFloors`
    return [{ file: `${root}package.json`, line: 1, rule: 'package-floor', message }]
  }
  const folderOf = new Map(packages.map(({ folder, manifest }) => [manifest.name, folder]))
  for (const { path, imports } of pkg.files) {
    for (const via of imports) {
      const { specifier, line } = via
      const leaves = resolve(pkg, path, via).find((target) => !target.startsWith(root))
      if (leaves !== undefined) {
        const message = `\`${specifier}\` leaves the package: import another package by its name`
        problems.push({ file: path, line, rule: 'package-floor', message })
      }
      const name = /^(@[^/]+\/[^/]+|[^@./#][^/]*)/.exec(specifier)?.[1]
      const folder = name === undefined ? undefined : folderOf.get(name)
      if (folder !== undefined && folder !== pkg.folder && !allowed.includes(folder)) {
        const message = `\`${pkg.folder}\` must not import \`${folder}\``
        problems.push({ file: path, line, rule: 'package-floor', message })
      }
    }
  }
  return problems
}

/** No circle between files. Two things do not count: how a worker's file is named (`new URL`), since the two run apart; and types
 *  between files of one folder, since nouns may speak of each other (a source tells its extents, an extent names its source). */
function checkCircles(pkg: Package): Problem[] {
  const edges = edgesOf(pkg).filter(
    ({ from, to, via }) => via.kind !== 'url' && !(via.typeOnly && posix.dirname(from.path) === posix.dirname(to)),
  )
  const next = Map.groupBy(edges, ({ from }) => from.path)
  const problems: Problem[] = []
  for (const circle of strongComponents(
    pkg.files.map(({ path }) => path),
    (path) => (next.get(path) ?? []).map(({ to }) => to),
  )) {
    const members = new Set(circle)
    const inside = edges.filter(({ from, to }) => members.has(from.path) && members.has(to))
    const [first] = inside.sort((a, b) => (a.from.path < b.from.path ? -1 : 1))
    if (first === undefined) continue
    const message = `a circle between ${circle.sort().join(', ')}`
    problems.push({ file: first.from.path, line: first.via.line, rule: 'import-circle', message })
  }
  return problems
}

/** The groups of nodes that reach each other: more than one node, or one that reaches itself. Tarjan's algorithm. */
function strongComponents(nodes: readonly string[], next: (node: string) => readonly string[]): string[][] {
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const onStack = new Set<string>()
  const groups: string[][] = []
  const lower = (node: string, value: number) => low.set(node, Math.min(low.get(node) ?? value, value))

  const visit = (node: string) => {
    index.set(node, index.size)
    low.set(node, index.size - 1)
    stack.push(node)
    onStack.add(node)
    for (const other of next(node)) {
      if (!index.has(other)) {
        visit(other)
        lower(node, low.get(other) as number)
      } else if (onStack.has(other)) lower(node, index.get(other) as number)
    }
    if (low.get(node) !== index.get(node)) return
    const group: string[] = []
    for (let member = stack.pop(); member !== undefined; member = member === node ? undefined : stack.pop()) {
      onStack.delete(member)
      group.push(member)
    }
    if (group.length > 1 || next(node).includes(node)) groups.push(group)
  }
  for (const node of nodes) if (!index.has(node)) visit(node)
  return groups
}
