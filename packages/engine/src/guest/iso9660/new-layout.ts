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
  recordLength,
  ridgeFields,
  type SystemUse,
  susp,
  utf16be,
} from './new-fields.ts'
import { type IsoLevel, isoIdentifiers, jolietNames } from './new-names.ts'

/** Bytes of one extent: the largest whole number of sectors that 32 bits hold. */
export const extentBytes = 0xffff_f800
const mostDirectories = 0xffff
const mostSectors = 0xffff_ffff

/** One directory of one tree. */
export interface NewDirectory {
  node: NewNode
  /** Its number in the path table, from 1. */
  number: number
  parent: NewDirectory
  /** Its name in the path table. */
  identifier: Uint8Array
  /** What it holds, in the order of its records. */
  records: { node: NewNode; identifier: Uint8Array }[]
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
      if (node.entry.kind === 'directory') add(node, parent, identifier)
    }
    if (tree.directories.length > mostDirectories)
      throw tooMuch('directories', tree.directories.length, mostDirectories)
  }
  return tree
}

function recordsOf(node: NewNode, kind: NewTreeLayout['kind'], level: IsoLevel): NewDirectory['records'] {
  if (kind === 'primary') {
    return [...isoIdentifiers(node.children, level)]
      .sort(([, a], [, b]) => compare(a.replace(/;1$/, ''), b.replace(/;1$/, '')))
      .map(([child, name]) => ({ node: child, identifier: ascii(name) }))
  }
  return (
    [...jolietNames(node.children)]
      // It has no links: what they lead to is shown where it is.
      .filter(([child]) => child.entry.kind !== 'symlink')
      .sort(([, a], [, b]) => compare(a, b))
      .map(([child, name]) => ({ node: child, identifier: utf16be(name) }))
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
  { rockRidge, time }: Pick<NewVolumeLayout, 'rockRidge' | 'time'>,
  node: NewNode,
  identifierBytes: number,
  role: 'child' | 'self' | 'parent',
): SystemUse {
  if (!rockRidge) return { inRecord: new Uint8Array(0), areas: [] }
  const { kind } = node.entry
  const links = kind === 'directory' ? 2 + node.children.filter(({ entry }) => entry.kind === 'directory').length : 1
  const fields = ridgeFields(node, { links, time, named: role === 'child' })
  const isRoot = role === 'self' && node.parent === undefined
  return layFields(isRoot ? [susp, ...fields, extensionField()] : fields, identifierBytes)
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
        const { inRecord, areas } = systemUseOf(layout, node, identifierBytes, role)
        if (areas.length > 0)
          layout.areas.set(
            role === 'self' ? 'self' : node,
            areas.map((area) => reserve(layout, area.length)),
          )
        return inRecord.length
      }
      place(recordLength(1, use(directory.node, 1, 'self')))
      place(recordLength(1, use(directory.parent.node, 1, 'parent')))
      for (const { node, identifier } of directory.records) {
        const length = recordLength(identifier.length, use(node, identifier.length, 'child'))
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
