/** Writes ISO 9660 volumes front to back, with the exact length known first. The same files and options make the same bytes. */
import { roundUp, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, MoraineError } from '../../core/index.ts'
import type { StreamPlan } from '../../format/format.ts'
import { contentChunks, gathered, isSmall, openContent, smallBytes, smallContent } from '../new-content.ts'
import { isLonger, type NewEntry, type NewNode, newTree } from '../new-tree.ts'
import { recordFlags, sectorBytes } from './layout.ts'
import {
  bootInfoTable,
  mediaNumber,
  mostBootImages,
  type NewBootImage,
  type PlacedBootImage,
  writeBootCatalog,
} from './new-boot.ts'
import { writeDescriptors } from './new-descriptors.ts'
import { pointAt, writeRecord } from './new-fields.ts'
import { hybridSector } from './new-hybrid.ts'
import {
  extentBytes,
  extentsOf,
  identifierLength,
  identifierOf,
  layVolume,
  type NewDirectory,
  type NewTreeLayout,
  type NewVolumeLayout,
  systemUseOf,
} from './new-layout.ts'
import type { IsoLevel } from './new-names.ts'

/** What a new volume is called. Texts that are too long are refused. */
export interface NewVolumeTexts {
  /** Up to 32 characters, of which Joliet has 16. Capital letters, digits and `_` are what the standard has; others are written too, as everybody does. */
  volumeId?: string | undefined
  systemId?: string | undefined
  volumeSetId?: string | undefined
  publisher?: string | undefined
  preparer?: string | undefined
  application?: string | undefined
  /** Names of files in the root. */
  copyrightFile?: string | undefined
  abstractFile?: string | undefined
  bibliographicFile?: string | undefined
}

/** How a new volume is made. */
export interface NewVolumeOptions extends NewVolumeTexts {
  /** Seconds since 1970: the time of the volume, and of files that have none. Default: now. */
  time?: number | undefined
  /** How long the plain names may be; default 3. */
  level?: IsoLevel | undefined
  /** Default true. */
  rockRidge?: boolean | undefined
  /** Default true. */
  joliet?: boolean | undefined
  boot?: readonly NewBootImage[] | undefined
  /** The first bytes, up to 32 KiB: boot code, a partition table. */
  systemArea?: Uint8Array | undefined
  /** A partition table whose one partition is the image that EFI boots, so that the volume boots from a USB stick, too. Default false. */
  hybrid?: boolean | undefined
  /** Sectors of zeros behind everything; drives that read ahead want 150 of a disc that is burnt. Default 0. */
  padding?: number | undefined
}

/** A planned volume. */
export interface NewVolumePlan extends StreamPlan {
  readonly length: number
  /** What readers will not see as it is here, for people. */
  readonly notes: readonly string[]
}

const systemAreaBytes = 16 * sectorBytes
const mostInfoTableBytes = 64 * 1024 * 1024
const infoTableStart = 8
const lastTime = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000
/** Linux cuts longer names, when it reads Rock Ridge. */
const linuxNameBytes = 253
/** Measured with xorriso 1.5.4: it reads a link whose target has 1,023 bytes, and refuses the whole volume for one with 1,024. */
const xorrisoTargetBytes = 1023

/** Plans a volume of the files. Files are opened when their turn comes, and read once; those with a boot information table twice.
 *  @throws MoraineError `invalid` for names, options and boot images that break a rule; `limit` for what does not fit; from `chunks` also `io`, where a file has another size than it
 *  had. */
export function planIsoVolume(entries: readonly NewEntry[], options: NewVolumeOptions = {}): NewVolumePlan {
  const root = newTree(entries)
  const time = Math.floor(options.time ?? Date.now() / 1000)
  const { boot = [], systemArea, level = 3, rockRidge = true, joliet = true, padding = 0 } = options
  if (!(time >= 0 && time <= lastTime)) throw refused('time', time, 'a time from 1970 to 9999')
  if (systemArea !== undefined && systemArea.length > systemAreaBytes) {
    throw refused('system area', systemArea.length, `at most ${systemAreaBytes} bytes`)
  }
  if (boot.length > mostBootImages) throw refused('boot images', boot.length, `at most ${mostBootImages}`)
  const images = boot.map((image) => ({ image, node: bootFile(root, image) }))
  const layout = layVolume(root, { level, rockRidge, joliet, boot: boot.length > 0, time, padding })
  const placed = images.map(({ image, node }) => ({
    ...image,
    block: layout.files.get(node) ?? 0,
    size: node.entry.size ?? 0,
  }))
  const descriptors = writeDescriptors(layout, options)
  const firstSector = options.hybrid === true ? hybridStart(layout, placed, systemArea) : undefined
  const infoTables = new Set(images.flatMap(({ image, node }) => (image.infoTable === true ? [node] : [])))
  return {
    length: layout.blocks * sectorBytes,
    notes: notesOf(layout),
    chunks: (signal) => gathered(pieces(signal), signal),
  }

  async function* pieces(signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const area = new Uint8Array(systemAreaBytes)
    area.set(systemArea ?? [])
    area.set(firstSector ?? [])
    yield area
    yield descriptors
    for (const tree of layout.trees) yield* pathTables(tree)
    for (const tree of layout.trees) {
      yield* directoryBytes(layout, tree)
      if (tree.kind === 'primary') yield* areaBytes(layout, tree)
    }
    if (layout.catalog !== undefined) yield writeBootCatalog(placed, await diskTypes(images))
    // One room does for all: `gathered` copies what is shorter than `passedOnBytes`, to which `smallBytes` is tied.
    const small = { bytes: new Uint8Array(roundUp(smallBytes, sectorBytes)), unit: sectorBytes }
    for (const node of layout.written) {
      if (infoTables.has(node)) yield await bytesWithTable(node, layout.files.get(node) ?? 0)
      else if (isSmall(node)) yield await smallContent(node, small, signal)
      else {
        yield* contentChunks(node, signal)
        const { size = 0 } = node.entry
        const rest = roundUp(size, sectorBytes) - size
        if (rest > 0) yield new Uint8Array(rest)
      }
    }
    for (let left = padding; left > 0; left -= 16) yield new Uint8Array(Math.min(left, 16) * sectorBytes)
  }
}

/** The first sector of a hybrid volume, known by when it was made and how large it is. */
function hybridStart(
  { time, blocks }: NewVolumeLayout,
  placed: readonly PlacedBootImage[],
  systemArea: Uint8Array | undefined,
): Uint8Array {
  const image = placed.find(({ platform }) => platform === 'efi')
  if (image === undefined) throw refused('hybrid volume', 'none', 'a boot image for EFI')
  return hybridSector(systemArea, image, time ^ Math.imul(blocks, 0x9e3779b1))
}

function refused(field: string, value: string | number, rule: string): MoraineError {
  return new MoraineError('invalid', `the ${field} of a new volume breaks a rule`, {
    format: 'iso',
    field,
    value,
    rule,
  })
}

/** The file of a boot image. */
function bootFile(root: NewNode, image: NewBootImage): NewNode {
  let node: NewNode | undefined = root
  for (const name of image.path.split('/').filter((part) => part !== '')) {
    node = node?.children.find((child) => child.name === name)
  }
  const size = node?.entry.size ?? 0
  if (node === undefined || node.entry.kind !== 'file' || size === 0) {
    throw refused('boot image', image.path, 'a file of the volume that is not empty')
  }
  if (mediaNumber(image, size) === undefined) {
    throw refused('boot image', `${image.path} of ${size} bytes`, '1228800, 1474560 or 2949120 bytes for a floppy disk')
  }
  if (image.infoTable === true && (size < 64 || size > mostInfoTableBytes)) {
    throw refused(
      'boot image',
      `${image.path} of ${size} bytes`,
      `64 to ${mostInfoTableBytes} for a boot information table`,
    )
  }
  // Its content becomes its own.
  if (image.infoTable === true) node.entry = { ...node.entry, identity: undefined }
  return node
}

function notesOf(layout: NewVolumeLayout): string[] {
  const notes: string[] = []
  const [primary] = layout.trees
  for (const { node } of primary?.directories.flatMap(({ records }) => records) ?? []) {
    if (layout.rockRidge && isLonger(node.name, linuxNameBytes)) {
      notes.push(`Linux cuts the name of '${node.path}' at ${linuxNameBytes} bytes`)
    }
    const { target = '' } = node.entry
    if (layout.rockRidge && isLonger(target, xorrisoTargetBytes)) {
      notes.push(
        `xorriso reads no volume with a link that leads as far as '${node.path}' does (${xorrisoTargetBytes} bytes)`,
      )
    }
  }
  return notes
}

function* pathTables({ directories, pathTableBytes }: NewTreeLayout): Generator<Uint8Array> {
  for (const little of [true, false]) {
    const bytes = new Uint8Array(roundUp(pathTableBytes, sectorBytes))
    const view = viewOf(bytes)
    let at = 0
    for (const { identifier, block, parent } of directories) {
      bytes[at] = identifier.length
      view.setUint32(at + 2, block, little)
      view.setUint16(at + 6, parent.number, little)
      bytes.set(identifier, at + 8)
      at += 8 + identifier.length + (identifier.length % 2)
    }
    yield bytes
  }
}

function* directoryBytes(layout: NewVolumeLayout, tree: NewTreeLayout): Generator<Uint8Array> {
  for (const directory of tree.directories) {
    const bytes = new Uint8Array(directory.bytes)
    let at = 0
    for (const record of recordsIn(layout, tree, directory)) {
      if ((at % sectorBytes) + record.length > sectorBytes) at = roundUp(at, sectorBytes)
      // It stands in the layout's room until the next one is asked for.
      bytes.set(record, at)
      at += record.length
    }
    yield bytes
  }
}

function* recordsIn(layout: NewVolumeLayout, tree: NewTreeLayout, directory: NewDirectory): Generator<Uint8Array> {
  const { node, parent } = directory
  yield folderRecord(layout, tree, directory, Uint8Array.of(0), { node, role: 'self' })
  yield folderRecord(layout, tree, parent, Uint8Array.of(1), { node: parent.node, role: 'parent' })
  for (const { node: child, identifier: text } of directory.records) {
    const identifier = identifierOf(tree.kind, text)
    const target = tree.byNode.get(child)
    if (target !== undefined) yield folderRecord(layout, tree, target, identifier, { node: child, role: 'child' })
    else yield* fileRecords(layout, tree, child, identifier)
  }
}

function folderRecord(
  layout: NewVolumeLayout,
  tree: NewTreeLayout,
  { block, bytes }: NewDirectory,
  identifier: Uint8Array,
  { node, role }: { node: NewNode; role: 'self' | 'parent' | 'child' },
): Uint8Array {
  const systemUse = pointed(layout, tree, node, identifier.length, role)
  const modified = node.entry.modified ?? layout.time
  return writeRecord({ identifier, block, size: bytes, modified, flags: recordFlags.directory, systemUse }, layout.room)
}

/** One record for each extent. */
function* fileRecords(
  layout: NewVolumeLayout,
  tree: NewTreeLayout,
  node: NewNode,
  identifier: Uint8Array,
): Generator<Uint8Array> {
  const systemUse = pointed(layout, tree, node, identifier.length, 'child')
  const { modified = layout.time } = node.entry
  const start = layout.files.get(node) ?? 0
  const all = node.entry.kind === 'file' ? (node.entry.size ?? 0) : 0
  const count = extentsOf(node)
  for (let index = 0; index < count; index++) {
    const size = Math.min(extentBytes, all - index * extentBytes)
    const block = start + index * (extentBytes / sectorBytes)
    yield writeRecord(
      { identifier, block, size, modified, flags: index < count - 1 ? recordFlags.more : 0, systemUse },
      layout.room,
    )
  }
}

/** The system use of a record, which says where it goes on. */
function pointed(
  layout: NewVolumeLayout,
  { kind }: NewTreeLayout,
  node: NewNode,
  identifierBytes: number,
  role: 'self' | 'parent' | 'child',
): Uint8Array {
  if (kind === 'joliet') return new Uint8Array(0)
  const { inRecord, areas } = systemUseOf(layout, node, identifierBytes, role)
  const [first] = areas
  const [place] = layout.areas.get(role === 'self' ? 'self' : node) ?? []
  if (first !== undefined && place !== undefined)
    pointAt(inRecord, layout.areaBlock * sectorBytes + place, first.length)
  return inRecord
}

/** The continuation areas, in the order in which they were reserved: that of the records. */
function* areaBytes(layout: NewVolumeLayout, tree: NewTreeLayout): Generator<Uint8Array> {
  const all = new Uint8Array(roundUp(layout.areaBytes, sectorBytes))
  const start = layout.areaBlock * sectorBytes
  const write = (node: NewNode, identifierBytes: number, role: 'self' | 'child'): void => {
    const places = layout.areas.get(role === 'self' ? 'self' : node)
    if (places === undefined) return
    const { areas } = systemUseOf(layout, node, identifierBytes, role)
    for (const [index, area] of areas.entries()) {
      const next = areas[index + 1]
      if (next !== undefined) pointAt(area, start + (places[index + 1] ?? 0), next.length)
      all.set(area, places[index] ?? 0)
    }
  }
  write(layout.root, 1, 'self')
  for (const { records } of tree.directories) {
    for (const { node, identifier } of records) write(node, identifierLength(tree.kind, identifier), 'child')
  }
  yield all
}

/** The types of the first partitions of hard disks that are booted, which the catalogue repeats. */
async function diskTypes(images: readonly { image: NewBootImage; node: NewNode }[]): Promise<Map<string, number>> {
  const types = new Map<string, number>()
  for (const { image, node } of images) {
    if (image.emulation !== 'hard-disk') continue
    const sector = new Uint8Array(Math.min(512, node.entry.size ?? 0))
    await withContent(node, (source) => source.read(0, sector))
    types.set(image.path, sector[450] ?? 0)
  }
  return types
}

/** A boot image up to the end of its last sector, with the boot information table in it. */
async function bytesWithTable(node: NewNode, block: number): Promise<Uint8Array> {
  const { size = 0 } = node.entry
  const bytes = new Uint8Array(roundUp(size, sectorBytes))
  const content = bytes.subarray(0, size)
  await withContent(node, (source) => source.read(0, content))
  const table = bootInfoTable(content, block)
  content.set(table.subarray(0, size - infoTableStart), infoTableStart)
  return bytes
}

async function withContent<Result>(node: NewNode, work: (source: ByteSource) => Promise<Result>): Promise<Result> {
  const source = await openContent(node)
  try {
    return await work(source)
  } finally {
    await source.close()
  }
}
