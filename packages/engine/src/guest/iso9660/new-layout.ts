/** Where everything of a new volume stands: one tree of directories for each kind of names, and the files that they share. Facts: ECMA-119 4th edition, sections 6.8 to 6.10, 7.6.3
 *  (depth, which all systems ignore) and 9.4 (path tables). */
import { divideUp, roundUp } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import { type NewNode, nodesOf } from '../new-tree.ts'
import { sectorBytes } from './layout.ts'
import {
  ascii,
  extensionField,
  layFields,
  type RecordRoom,
  recordLength,
  recordRoom,
  ridgeFields,
  type SystemUse,
  shortUse,
  shortUseBytes,
  susp,
  utf16be,
} from './new-fields.ts'
import { type IsoLevel, isoIdentifiers, jolietNames } from './new-names.ts'

/** Bytes of one extent: the largest whole number of sectors that 32 bits hold. */
export const extentBytes = 0xffff_f800
const mostDirectories = 0xffff
const mostSectors = 0xffff_ffff

/** One name in a directory. */
export interface NewDirectoryRecord {
  node: NewNode
  /** As text, which takes less room than its bytes (`identifierOf`). */
  identifier: string
}

/** One directory of one tree. */
export interface NewDirectory {
  node: NewNode
  /** Its number in the path table, from 1. */
  number: number
  parent: NewDirectory
  /** Its name in the path table. */
  identifier: Uint8Array
  /** What it holds, in the order of its records. */
  records: NewDirectoryRecord[]
  /** Whole sectors. */
  bytes: number
  block: number
}

/** One tree with its path tables. */
export interface NewTreeLayout {
  kind: 'primary' | 'joliet'
  directories: NewDirectory[]
  byNode: Map<NewNode, NewDirectory>
  pathTableBytes: number
  /** Blocks of the two path tables. */
  little: number
  big: number
}

/** A new volume. */
export interface NewVolumeLayout {
  root: NewNode
  time: number
  rockRidge: boolean
  trees: NewTreeLayout[]
  /** Where the continuation areas of a node begin, in bytes from the first; `self` is for the record of the root about itself. */
  areas: Map<NewNode | 'self', number[]>
  areaBlock: number
  areaBytes: number
  /** Block of the boot catalogue, where there is one. */
  catalog: number | undefined
  /** Blocks of the files, in the order in which they are written; files of one identity share one. */
  files: Map<NewNode, number>
  /** The files that are written: those that are empty or share another's content are not. */
  written: NewNode[]
  /** In blocks, all of it. */
  blocks: number
  room: RecordRoom
}

/** What decides the layout. */
export interface NewVolumeShape {
  level: IsoLevel
  rockRidge: boolean
  joliet: boolean
  boot: boolean
  time: number
  /** Sectors of zeros behind everything. */
  padding: number
}

/** Lays a volume out.
 *  @throws MoraineError `limit` for what the format has no room for. */
export function layVolume(root: NewNode, shape: NewVolumeShape): NewVolumeLayout {
  const layout: NewVolumeLayout = {
    root,
    time: shape.time,
    rockRidge: shape.rockRidge,
    trees: [layTree(root, 'primary', shape)],
    areas: new Map(),
    areaBlock: 0,
    areaBytes: 0,
    catalog: undefined,
    files: new Map(),
    written: [],
    blocks: 0,
    room: recordRoom(),
  }
  if (shape.joliet) layout.trees.push(layTree(root, 'joliet', shape))
  sizeDirectories(layout)
  // Descriptors: primary, boot record, Joliet, terminator.
  let block = 16 + 2 + (shape.boot ? 1 : 0) + (shape.joliet ? 1 : 0)
  for (const tree of layout.trees) {
    const tableBlocks = divideUp(tree.pathTableBytes, sectorBytes)
    tree.little = block
    tree.big = block + tableBlocks
    block += 2 * tableBlocks
  }
  for (const tree of layout.trees) {
    for (const directory of tree.directories) {
      directory.block = block
      block += directory.bytes / sectorBytes
    }
    if (tree.kind === 'primary') {
      layout.areaBlock = block
      block += divideUp(layout.areaBytes, sectorBytes)
    }
  }
  if (shape.boot) layout.catalog = block++
  block = placeFiles(layout, block) + shape.padding
  if (block > mostSectors) throw tooMuch('sectors', block, mostSectors)
  layout.blocks = block
  return layout
}

function tooMuch(field: string, value: number, most: number): MoraineError {
  return new MoraineError('limit', 'the files do not fit into a volume of ISO 9660', {
    format: 'iso',
    field,
    value,
    rule: `at most ${most}`,
  })
}

/** The directories of a tree in the order of the path table: by depth, then by parent, then by name. */
function layTree(root: NewNode, kind: NewTreeLayout['kind'], { level }: NewVolumeShape): NewTreeLayout {
  const tree: NewTreeLayout = { kind, directories: [], byNode: new Map(), pathTableBytes: 0, little: 0, big: 0 }
  const add = (node: NewNode, parent: NewDirectory | undefined, identifier: Uint8Array): void => {
    const number = tree.directories.length + 1
    const directory = { node, number, identifier, records: recordsOf(node, kind, level), bytes: 0, block: 0 }
    const whole: NewDirectory = Object.assign(directory, { parent: parent ?? (directory as unknown as NewDirectory) })
    tree.directories.push(whole)
    tree.byNode.set(node, whole)
    tree.pathTableBytes += 8 + identifier.length + (identifier.length % 2)
  }
  add(root, undefined, Uint8Array.of(0))
  for (let at = 0; at < tree.directories.length; at++) {
    const parent = tree.directories[at]
    for (const { node, identifier } of parent?.records ?? []) {
      if (node.entry.kind === 'directory') add(node, parent, identifierOf(kind, identifier))
    }
    if (tree.directories.length > mostDirectories)
      throw tooMuch('directories', tree.directories.length, mostDirectories)
  }
  return tree
}

/** The bytes of an identifier as the kind of tree has it. */
export function identifierOf(kind: NewTreeLayout['kind'], identifier: string): Uint8Array {
  return kind === 'primary' ? ascii(identifier) : utf16be(identifier)
}

/** How many those are: identifiers of the primary tree have characters of one unit only. */
export function identifierLength(kind: NewTreeLayout['kind'], identifier: string): number {
  return kind === 'primary' ? identifier.length : identifier.length * 2
}

function recordsOf(node: NewNode, kind: NewTreeLayout['kind'], level: IsoLevel): NewDirectory['records'] {
  if (kind === 'primary') {
    return [...isoIdentifiers(node.children, level)]
      .sort(([, a], [, b]) => compare(a.replace(/;1$/, ''), b.replace(/;1$/, '')))
      .map(([node, identifier]) => ({ node, identifier }))
  }
  return (
    [...jolietNames(node.children)]
      // It has no links: what they lead to is shown where it is.
      .filter(([child]) => child.entry.kind !== 'symlink')
      .sort(([, a], [, b]) => compare(a, b))
      .map(([node, identifier]) => ({ node, identifier }))
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** How many records a node has in its directory: one for each extent. */
export function extentsOf({ entry }: NewNode): number {
  return entry.kind === 'file' ? Math.max(1, divideUp(entry.size ?? 0, extentBytes)) : 1
}

/** The system use of a node's record in its directory, or in that which it is itself (`self`: the root's first record). */
export function systemUseOf(
  { rockRidge, time, room }: Pick<NewVolumeLayout, 'rockRidge' | 'time' | 'room'>,
  node: NewNode,
  identifierBytes: number,
  role: 'child' | 'self' | 'parent',
): SystemUse {
  if (!rockRidge) return { inRecord: noBytes, areas: [] }
  const links = linksOf(node)
  const named = role === 'child'
  const isRoot = role === 'self' && node.parent === undefined
  const bytes = isRoot ? undefined : shortUseBytes(node, identifierBytes, named)
  if (bytes !== undefined) return { inRecord: shortUse(node, { links, time, bytes, named }, room), areas: [] }
  const fields = ridgeFields(node, { links, time, named })
  return layFields(isRoot ? [susp, ...fields, extensionField()] : fields, identifierBytes)
}

const noBytes = new Uint8Array(0)

/** How many links a node has: a directory has one in each directory that it holds. */
function linksOf({ entry, children }: NewNode): number {
  if (entry.kind !== 'directory') return 1
  return children.reduce((count, child) => (child.entry.kind === 'directory' ? count + 1 : count), 2)
}

/** Bytes of a system use in its record, and the areas that it needs besides. */
function measureUse(
  layout: NewVolumeLayout,
  node: NewNode,
  identifierBytes: number,
  role: 'child' | 'self' | 'parent',
): { inRecord: number; areas: readonly number[] } {
  if (!layout.rockRidge) return { inRecord: 0, areas: [] }
  const isRoot = role === 'self' && node.parent === undefined
  const short = isRoot ? undefined : shortUseBytes(node, identifierBytes, role === 'child')
  if (short !== undefined) return { inRecord: short, areas: [] }
  const { inRecord, areas } = systemUseOf(layout, node, identifierBytes, role)
  return { inRecord: inRecord.length, areas: areas.map(({ length }) => length) }
}

function sizeDirectories(layout: NewVolumeLayout): void {
  for (const { kind, directories } of layout.trees) {
    for (const directory of directories) {
      let at = 0
      const place = (length: number): void => {
        // No record crosses the end of a sector.
        if ((at % sectorBytes) + length > sectorBytes) at = roundUp(at, sectorBytes)
        at += length
      }
      const use = (node: NewNode, identifierBytes: number, role: 'child' | 'self' | 'parent'): number => {
        if (kind === 'joliet') return 0
        const { inRecord, areas } = measureUse(layout, node, identifierBytes, role)
        if (areas.length > 0)
          layout.areas.set(
            role === 'self' ? 'self' : node,
            areas.map((length) => reserve(layout, length)),
          )
        return inRecord
      }
      place(recordLength(1, use(directory.node, 1, 'self')))
      place(recordLength(1, use(directory.parent.node, 1, 'parent')))
      for (const { node, identifier } of directory.records) {
        const bytes = identifierLength(kind, identifier)
        const length = recordLength(bytes, use(node, bytes, 'child'))
        for (let i = extentsOf(node); i > 0; i--) place(length)
      }
      directory.bytes = Math.max(sectorBytes, roundUp(at, sectorBytes))
      if (directory.bytes > extentBytes) throw tooMuch('data length', directory.bytes, extentBytes)
    }
  }
}

/** Space for a continuation area: it does not cross the end of a sector either. */
function reserve(layout: NewVolumeLayout, length: number): number {
  const at = layout.areaBytes
  const start = (at % sectorBytes) + length > sectorBytes ? roundUp(at, sectorBytes) : at
  layout.areaBytes = start + length
  return start
}

function placeFiles(layout: NewVolumeLayout, first: number): number {
  let block = first
  const known = new Map<string, number>()
  for (const node of nodesOf(layout.root)) {
    const { kind, size = 0, identity } = node.entry
    if (kind !== 'file' || size === 0) continue
    const key = identity === undefined ? undefined : `${identity} ${size}`
    const same = key === undefined ? undefined : known.get(key)
    layout.files.set(node, same ?? block)
    if (same !== undefined) continue
    if (key !== undefined) known.set(key, block)
    layout.written.push(node)
    block += divideUp(size, sectorBytes)
  }
  return block
}
