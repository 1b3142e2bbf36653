/** Files and directories as a volume shows them. */
import { type DirectoryRecord, latin1, readUtf16be, recordFlags } from './layout.ts'
import { type RockRidge, readRockRidge } from './rock-ridge.ts'
import { type AreaBudget, readSystemUse } from './system-use.ts'
import type { VolumeReader } from './volume-reader.ts'

/** What an entry is. */
export type IsoEntryKind = 'file' | 'directory' | 'symlink' | 'character-device' | 'block-device' | 'fifo' | 'socket'

/** One file, directory or other thing of a volume. Where the tree has no Rock Ridge, what only that knows is undefined. */
export interface IsoEntry {
  /** From the root, beginning with a slash. */
  path: string
  /** Its last part: never empty, `.`, `..` or with a slash or a zero character in it, save for the root's, which is empty. */
  name: string
  kind: IsoEntryKind
  /** Bytes of its data. */
  size: number
  /** Where the data lies in the image. Not looked at before the file is opened: it may lie outside. */
  extents: readonly { offset: number; length: number }[]
  /** Type and permissions, as POSIX has them. */
  mode: number | undefined
  uid: number | undefined
  gid: number | undefined
  links: number | undefined
  /** Seconds since 1970. */
  modified: number | undefined
  /** Where a symbolic link leads. */
  target: string | undefined
  device: { major: number; minor: number } | undefined
  /** The record says that it shall not be shown. */
  hidden: boolean
  /** Packed with zisofs, and unpacked when it is read. The entry's `size` is that of what is stored. */
  packed: { algorithm: string; blockBits: number; size: number } | undefined
  /** Why its data cannot be read, where it cannot. */
  unreadable: string | undefined
}

/** Which names are shown. */
export type IsoNames = 'rock-ridge' | 'joliet' | 'plain'

/** By the type that stands in the upper four bits of a POSIX mode. */
const kinds: ReadonlyMap<number, IsoEntryKind> = new Map([
  [1, 'fifo'],
  [2, 'character-device'],
  [6, 'block-device'],
  [10, 'symlink'],
  [12, 'socket'],
])

/** Names of more characters are cut by no file system that is known, and refused by all. */
const mostNameLength = 1024

/** The entry of a record, and what its Rock Ridge says of places. */
export interface ReadEntry {
  entry: IsoEntry
  /** It stands for a directory that belongs elsewhere. */
  relocated: boolean
  /** Logical block of a directory that stands elsewhere. */
  child: number | undefined
}

/** Makes the entry of the records of one file: one, or several where it has several extents.
 *  @throws MoraineError `corrupt`. */
export async function readEntry(
  reader: VolumeReader,
  names: IsoNames,
  folder: string,
  records: readonly DirectoryRecord[],
  budget: AreaBudget,
): Promise<ReadEntry | undefined> {
  const [first] = records
  if (first === undefined) return undefined
  const ridge =
    reader.skip === undefined
      ? undefined
      : readRockRidge(await readSystemUse(reader, first, reader.skip, budget), reader.doubt)
  const name = nameOf(reader, names, first, ridge)
  const isDirectory = (first.flags & recordFlags.directory) !== 0 || ridge?.child !== undefined
  const type = (ridge?.mode ?? 0) >>> 12
  const entry: IsoEntry = {
    path: `${folder === '/' ? '' : folder}/${name}`,
    name,
    kind: isDirectory ? 'directory' : (kinds.get(type) ?? 'file'),
    size: records.reduce((sum, { size }) => sum + size, 0),
    extents: records.map(({ block, extendedBlocks, size }) => ({
      offset: (block + extendedBlocks) * reader.blockSize,
      length: size,
    })),
    mode: ridge?.mode,
    uid: ridge?.uid,
    gid: ridge?.gid,
    links: ridge?.links,
    modified: ridge?.modified ?? first.date,
    target: ridge?.target,
    device: ridge?.device,
    hidden: (first.flags & recordFlags.hidden) !== 0,
    packed: ridge?.packed,
    unreadable: unreadable(records, ridge),
  }
  if (entry.kind === 'symlink' && entry.target === undefined) {
    reader.warnOnce('SL', `the symbolic link '${entry.path}' does not say where it leads`)
    entry.target = ''
  }
  return { entry, relocated: ridge?.relocated === true, child: ridge?.child }
}

function unreadable(records: readonly DirectoryRecord[], ridge: RockRidge | undefined): string | undefined {
  if (records.some(({ interleaved }) => interleaved)) return 'it is interleaved with other files'
  if (ridge?.sparse === true) return 'it is a sparse file of Rock Ridge (SF)'
  return undefined
}

function nameOf(
  reader: VolumeReader,
  names: IsoNames,
  { identifier }: DirectoryRecord,
  ridge: RockRidge | undefined,
): string {
  const plain =
    names === 'joliet'
      ? readUtf16be(identifier).replace(/;1$/, '')
      : latin1(identifier).replace(/;1$/, '').replace(/\.$/, '').toLowerCase()
  const name = ridge?.name ?? plain
  const safe = safeName(name) ?? safeName(plain) ?? '_'
  if (safe !== name) {
    const shown = JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name)
    reader.warnOnce('names', `${shown} cannot be the name of a file and is shown as ${JSON.stringify(safe)}`)
  }
  return safe
}

/** The name with what separates names replaced; undefined where nothing can be made of it. */
function safeName(name: string): string | undefined {
  if (name === '' || name === '.' || name === '..' || name.length > mostNameLength) return undefined
  return name.replaceAll(/[/\0]/g, '_')
}
