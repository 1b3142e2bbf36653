/** Where everything of a new FAT volume stands: its kind and clusters, and the runs of directories and files. Facts: Microsoft's FAT specification (2005), sections 3 and 4. */
import { divideUp, roundUp } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import { type NewNode, nodesOf } from '../new-tree.ts'
import { entriesFor, type FatName, fatNames } from './new-names.ts'

/** Bytes of a sector. */
export const fatSector = 512
/** Bytes of a directory entry. */
export const entryBytes = 32

/** Which kind: the bits of an entry of its table. */
export type FatBits = 12 | 16 | 32

/** The numbers of a volume. */
export interface FatGeometry {
  bits: FatBits
  sectors: number
  sectorsPerCluster: number
  reserved: number
  /** Sectors of each of the two tables. */
  tableSectors: number
  /** Entries of the root directory where it has a place of its own; 0 with 32 bits. */
  rootEntries: number
  clusters: number
}

/** Clusters in a row. */
export interface FatRun {
  first: number
  count: number
}

/** A new volume. */
export interface FatLayout {
  geometry: FatGeometry
  root: NewNode
  names: Map<NewNode, Map<NewNode, FatName>>
  /** The clusters of directories (save a root that has its own place) and of files that are not empty, in their order. */
  runs: Map<NewNode, FatRun>
}

/** How many clusters decide the kind. */
const mostClusters: Readonly<Record<FatBits, number>> = { 12: 4084, 16: 65_524, 32: 0x0fff_fff4 }
const fewestClusters: Readonly<Record<FatBits, number>> = { 12: 1, 16: 4085, 32: 65_525 }
const mostFileBytes = 0xffff_ffff
const mostDirectoryBytes = 65_536 * entryBytes
const usualRootEntries = 512
const mebibyte = 1024 * 1024
const mostSectors = 0xffff_ffff

/** Lays a volume out. Without a size the smallest in whole MiB is taken that holds everything.
 *  @throws MoraineError `invalid` for names and sizes that cannot be; `limit` for what does not fit. */
export function layFatVolume(
  root: NewNode,
  wanted: { size: number | undefined; bits: FatBits | undefined },
): FatLayout {
  const names = new Map<NewNode, Map<NewNode, FatName>>()
  for (const node of [root, ...nodesOf(root)]) {
    if (node.entry.kind === 'directory') names.set(node, fatNames(node.children))
    if ((node.entry.size ?? 0) > mostFileBytes)
      throw tooMuch(node.path, node.entry.size ?? 0, `at most ${mostFileBytes} bytes`)
    const bytes = node.entry.kind === 'directory' ? directoryBytes(node, names) : 0
    if (bytes > mostDirectoryBytes)
      throw tooMuch(node.path, bytes, `at most ${mostDirectoryBytes} bytes of a directory`)
  }
  if (wanted.size !== undefined) {
    const layout = tryLayout(root, names, wanted.size, wanted.bits)
    if (layout !== undefined) return layout
    throw tooMuch('size', wanted.size, 'enough for all files and directories, and for a volume of this kind')
  }
  let content = 0
  for (const { entry } of nodesOf(root)) content += (entry.size ?? 0) + fatSector
  // Tables and the last clusters of files come on top; how much, depends on the kind.
  for (
    let size = roundUp(Math.max(1, content), mebibyte);
    size <= mostSectors * fatSector;
    size += roundUp(size / 32, mebibyte)
  ) {
    const layout = tryLayout(root, names, size, wanted.bits)
    if (layout !== undefined) return layout
  }
  throw tooMuch('files', content, 'at most 2 TiB')
}

function tooMuch(field: string, value: number, rule: string): MoraineError {
  return new MoraineError('limit', 'the files do not fit onto a FAT volume', { format: 'fat', field, value, rule })
}

/** Bytes of a directory: its entries, with those for itself and its parent, or the label in the root. */
function directoryBytes(node: NewNode, names: ReadonlyMap<NewNode, Map<NewNode, FatName>>): number {
  let entries = node.parent === undefined ? 1 : 2
  for (const name of names.get(node)?.values() ?? []) entries += entriesFor(name)
  return entries * entryBytes
}

/** The layout for a size; undefined where not all fits. */
function tryLayout(
  root: NewNode,
  names: Map<NewNode, Map<NewNode, FatName>>,
  size: number,
  bits: FatBits | undefined,
): FatLayout | undefined {
  const rootEntries = Math.max(usualRootEntries, roundUp(directoryBytes(root, names) / entryBytes, 16))
  const geometry = geometryFor(Math.floor(size / fatSector), rootEntries, bits)
  if (geometry === undefined) return undefined
  const runs = new Map<NewNode, FatRun>()
  const clusterBytes = geometry.sectorsPerCluster * fatSector
  let next = 2
  const place = (node: NewNode, bytes: number): void => {
    const count = divideUp(bytes, clusterBytes)
    runs.set(node, { first: next, count })
    next += count
  }
  if (geometry.bits === 32) place(root, directoryBytes(root, names))
  for (const node of nodesOf(root)) {
    if (node.entry.kind === 'directory') place(node, directoryBytes(node, names))
  }
  for (const node of nodesOf(root)) {
    if (node.entry.kind === 'file' && (node.entry.size ?? 0) > 0) place(node, node.entry.size ?? 0)
  }
  return next - 2 <= geometry.clusters ? { geometry, root, names, runs } : undefined
}

/** The kind that a volume of this many sectors has elsewhere, and its numbers; undefined where it is too small or too large for the kind. */
function geometryFor(sectors: number, rootEntries: number, wanted: FatBits | undefined): FatGeometry | undefined {
  const bytes = sectors * fatSector
  const bits = wanted ?? (bytes < 16 * mebibyte ? 12 : bytes < 512 * mebibyte ? 16 : 32)
  if (sectors > mostSectors) return undefined
  // Clusters of 4 KiB are usual on large volumes.
  for (let perCluster = bits === 32 && bytes >= 512 * mebibyte ? 8 : 1; perCluster <= 64; perCluster *= 2) {
    const geometry = numbersFor(sectors, rootEntries, bits, perCluster)
    if (geometry.clusters < fewestClusters[bits]) return undefined
    if (geometry.clusters <= mostClusters[bits]) return geometry
  }
  return undefined
}

function numbersFor(sectors: number, rootEntries: number, bits: FatBits, sectorsPerCluster: number): FatGeometry {
  const reserved = bits === 32 ? 32 : 1
  const ownRoot = bits === 32 ? 0 : rootEntries
  const rootSectors = (ownRoot * entryBytes) / fatSector
  let tableSectors = 0
  let clusters = 0
  // The tables take from what they are tables of: a few rounds, until they suffice.
  for (let next = 1; next > tableSectors; ) {
    tableSectors = next
    clusters = Math.floor((sectors - reserved - 2 * tableSectors - rootSectors) / sectorsPerCluster)
    next = divideUp(((clusters + 2) * bits) / 8, fatSector)
  }
  return { bits, sectors, sectorsPerCluster, reserved, tableSectors, rootEntries: ownRoot, clusters }
}
