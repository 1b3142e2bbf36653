/** The files of a file system that is to be made, whatever its kind. */
import { type ByteSource, MoraineError } from '../core/index.ts'

/** One file, directory or symbolic link of a new file system. Directories above it need not be given. */
export interface NewEntry {
  /** Its names from the root on, parted by slashes: no slash at either end, no empty name, `.` or `..`; at most 4095 bytes. */
  path: string
  kind: 'file' | 'directory' | 'symlink'
  /** Bytes of a file. */
  size?: number | undefined
  /** Opens the content of a file when its turn comes; it is closed then. */
  open?: (() => Promise<ByteSource>) | undefined
  /** Where a symbolic link leads. */
  target?: string | undefined
  /** Permissions; default 0644, 0755 for directories. */
  mode?: number | undefined
  /** Default 0. */
  uid?: number | undefined
  gid?: number | undefined
  /** Seconds since 1970; default the time of the volume. */
  modified?: number | undefined
  /** Files of the same identity have the same content, which is stored once where the file system can do so. */
  identity?: string | undefined
}

/** One name in the tree. */
export interface NewNode {
  name: string
  /** From the root, beginning with a slash. */
  path: string
  entry: NewEntry
  parent: NewNode | undefined
  /** By their names, in the order of their UTF-8 bytes. */
  children: NewNode[]
}

const mostNameBytes = 255
/** What Linux takes as one path, PATH_MAX without its zero: trees are walked by functions that call themselves, and nobody could name a file further down. */
const mostPathBytes = 4095
const mostTargetBytes = mostPathBytes

/** The tree of the entries, in an order that does not depend on theirs.
 *  @throws MoraineError `invalid` for names that cannot be, paths of more than 4095 bytes, names that stand twice, and files within files. */
export function newTree(entries: readonly NewEntry[]): NewNode {
  const root = newNode('', undefined, { path: '', kind: 'directory' })
  const byPath = new Map([['', root]])
  // Directories that nobody gave by themselves yet.
  const implied = new Set<NewNode>()
  /** The node of the first `end` letters of a path, and those above it. */
  const nodeAt = ({ path: whole }: NewEntry, end: number): NewNode => {
    const path = end === whole.length ? whole : whole.slice(0, end)
    const known = byPath.get(path)
    if (known !== undefined) return known
    const slash = path.lastIndexOf('/')
    const name = path.slice(slash + 1)
    checkName(whole, slash === 0 ? '' : name)
    const parent = slash < 0 ? root : nodeAt({ path: whole, kind: 'directory' }, slash)
    if (parent.entry.kind !== 'directory') throw refused(whole, `'${parent.path}' is no directory`)
    const node = newNode(name, parent, { path, kind: 'directory' })
    byPath.set(path, node)
    implied.add(node)
    parent.children.push(node)
    return node
  }
  for (const entry of entries) {
    if (entry.path === '') checkName('', '')
    if (isLonger(entry.path, mostPathBytes)) throw refused(entry.path, `it is longer than ${mostPathBytes} bytes`)
    const node = nodeAt(entry, entry.path.length)
    if (!implied.delete(node)) throw refused(entry.path, 'it stands there twice')
    if (node.children.length > 0 && entry.kind !== 'directory') throw refused(entry.path, 'files are to be within it')
    checkEntry(entry)
    node.entry = entry
  }
  const sorted = (node: NewNode): void => {
    node.children.sort((a, b) => compareUtf8(a.name, b.name))
    for (const child of node.children) if (child.children.length > 0) sorted(child)
  }
  sorted(root)
  return root
}

function newNode(name: string, parent: NewNode | undefined, entry: NewEntry): NewNode {
  return { name, path: `/${entry.path}`, entry, parent, children: [] }
}

/** The order of the UTF-8 bytes of two texts, which is that of their code points: pairs of units come after all single ones. */
function compareUtf8(a: string, b: string): number {
  for (let at = 0; at < a.length && at < b.length; at++) {
    const difference = rank(a.charCodeAt(at)) - rank(b.charCodeAt(at))
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

function rank(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit
}

function checkName(path: string, name: string): void {
  if (name === '' || name === '.' || name === '..') throw refused(path, `'${name}' cannot be a name`)
  if (name.includes('\0')) throw refused(path, 'a name has a zero character in it')
  if (isLonger(name, mostNameBytes)) {
    throw refused(path, `a name of it is longer than ${mostNameBytes} bytes`)
  }
}

/** Whether a text has more bytes in UTF-8: most texts show it by their length. */
export function isLonger(text: string, bytes: number): boolean {
  return text.length * 3 > bytes && new TextEncoder().encode(text).length > bytes
}

function checkEntry({ path, kind, size, open, target }: NewEntry): void {
  if (kind === 'file' && (open === undefined || size === undefined || !Number.isSafeInteger(size) || size < 0)) {
    throw refused(path, 'a file needs its size and its content')
  }
  if (kind !== 'symlink') return
  if (target === undefined || target === '' || target.includes('\0')) throw refused(path, 'a link must lead somewhere')
  if (isLonger(target, mostTargetBytes)) {
    throw refused(path, `where it leads is longer than ${mostTargetBytes} bytes`)
  }
}

const mostShown = 512

function refused(path: string, why: string): MoraineError {
  const shown = path.length > mostShown ? `${path.slice(0, mostShown)}\u2026` : path
  return new MoraineError('invalid', `'${shown}' cannot be in the new file system: ${why}`, {
    field: 'path',
    value: shown,
  })
}

/** All nodes of a tree but its root, each directory before what it holds. */
export function* nodesOf(root: NewNode): Generator<NewNode> {
  for (const node of root.children) {
    yield node
    yield* nodesOf(node)
  }
}
