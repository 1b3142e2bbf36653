/** The file system of an ISO 9660 image: its tree, and its files as sources within the image. */
import { type ByteSource, defaultLimits, type Limits, MoraineError, throwIfCancelled } from '../../core/index.ts'
import { joinedSource } from '../../source/joined.ts'
import { sliceSource } from '../../source/slice.ts'
import { type Descriptors, readDescriptors, type VolumeDescriptor } from './descriptors.ts'
import { type DirectoryPlace, readFiles, readRecords } from './directory.ts'
import { type IsoBootCatalog, readBootCatalog } from './el-torito.ts'
import { type IsoEntry, type IsoNames, readEntry } from './entry.ts'
import { checkPathTables, type PathTableReport } from './path-tables.ts'
import { type IsoSystemArea, readSystemArea } from './system-area.ts'
import { AreaBudget, systemUseSkip } from './system-use.ts'
import { VolumeReader } from './volume-reader.ts'
import { openZisofs } from './zisofs.ts'

/** How an image is opened. */
export interface IsoOptions {
  /** Default: Rock Ridge where the volume has it, else Joliet, else the plain names in lower case. */
  names?: IsoNames | undefined
  limits?: Partial<Limits> | undefined
  /** Told what is odd and was dealt with; each kind of oddity once. */
  warn?: ((message: string) => void) | undefined
  signal?: AbortSignal | undefined
}

/** Directories within one another. */
const mostDepth = 256
/** Symbolic links that are followed on the way to one file, as in Linux. */
const mostLinks = 40
/** Bytes of all directories of one walk: some ten million files. */
const mostDirectoryBytes = 2 * 1024 ** 3

/** Opens the file system of an ISO 9660 image. The source is borrowed: it must stay open while files are read, and is the caller's to close.
 *  @throws MoraineError `not-this-format`; `unsupported` for UDF alone; `missing` where the volume has no names of the kind asked for; `corrupt`; `io`. */
export async function openIsoFileSystem(source: ByteSource, options: IsoOptions = {}): Promise<IsoFileSystem> {
  const reader = new VolumeReader(source, {
    limits: { ...defaultLimits, ...options.limits },
    signal: options.signal,
    warn: options.warn ?? (() => {}),
  })
  const descriptors = await readDescriptors(source, reader.doubt, options.signal)
  const { primary, supplementary } = descriptors
  reader.blockSize = primary.blockSize
  const joliet = supplementary.find(({ kind }) => kind === 'joliet')
  const skip = await findRockRidge(reader, primary)
  const names = options.names ?? (skip !== undefined ? 'rock-ridge' : joliet !== undefined ? 'joliet' : 'plain')
  const absent = names === 'rock-ridge' ? skip === undefined : names === 'joliet' && joliet === undefined
  if (absent) {
    throw new MoraineError('missing', `the volume has no names of ${names === 'joliet' ? 'Joliet' : 'Rock Ridge'}`, {
      path: source.name,
      format: 'iso',
      field: 'names',
      value: names,
    })
  }
  reader.skip = names === 'rock-ridge' ? skip : undefined
  const tree = names === 'joliet' && joliet !== undefined ? joliet : primary
  reader.blockSize = tree.blockSize
  return new IsoFileSystem(reader, descriptors, tree, names, skip !== undefined)
}

/** How the first record of the root begins its system use; undefined where it has none of SUSP. */
async function findRockRidge(reader: VolumeReader, { root }: VolumeDescriptor): Promise<number | undefined> {
  const place = { path: '/', offset: (root.block + root.extendedBlocks) * reader.blockSize, length: root.size }
  for await (const record of readRecords(reader, { ...place, length: Math.min(place.length, 2048) })) {
    return systemUseSkip(record.systemUse)
  }
  return undefined
}

/** An opened file system. Directories are read when they are asked for, and not kept. */
export class IsoFileSystem {
  /** The descriptors of the volume. */
  readonly descriptors: Descriptors
  /** The descriptor whose tree is shown. */
  readonly tree: VolumeDescriptor
  /** Which names are shown. */
  readonly names: IsoNames
  /** The primary tree has Rock Ridge. */
  readonly rockRidge: boolean
  readonly root: IsoEntry
  readonly #reader: VolumeReader

  /** Made by `openIsoFileSystem`. */
  constructor(
    reader: VolumeReader,
    descriptors: Descriptors,
    tree: VolumeDescriptor,
    names: IsoNames,
    rockRidge: boolean,
  ) {
    this.#reader = reader
    this.descriptors = descriptors
    this.tree = tree
    this.names = names
    this.rockRidge = rockRidge
    const { root } = tree
    this.root = {
      path: '/',
      name: '',
      kind: 'directory',
      size: root.size,
      extents: [{ offset: (root.block + root.extendedBlocks) * reader.blockSize, length: root.size }],
      mode: undefined,
      uid: undefined,
      gid: undefined,
      links: undefined,
      modified: root.date,
      target: undefined,
      device: undefined,
      hidden: false,
      packed: undefined,
      unreadable: undefined,
    }
  }

  /** The image. */
  get source(): ByteSource {
    return this.#reader.source
  }

  /** What a directory holds, in the order of the image.
   *  @throws MoraineError `invalid` for what is no directory; `corrupt`; `io`. */
  async *list(directory: IsoEntry): AsyncGenerator<IsoEntry> {
    yield* this.#list(directory, new AreaBudget(this.#reader))
  }

  async *#list(directory: IsoEntry, budget: AreaBudget): AsyncGenerator<IsoEntry> {
    const reader = this.#reader
    const place = this.#placeOf(directory)
    for await (const records of readFiles(reader, place)) {
      throwIfCancelled(reader.signal, reader.source.name)
      const found = await readEntry(reader, this.names, directory.path, records, budget)
      // What was moved is shown where it belongs.
      if (found === undefined || found.relocated) continue
      if (found.child !== undefined) await this.#followChild(found.entry, found.child)
      yield found.entry
    }
  }

  /** All entries below a directory (default the root), each directory before what it holds.
   *  @throws MoraineError as `list`; `corrupt` where directories go in a circle or share bytes; `limit` where they are nested too deep. */
  async *walk(from: IsoEntry = this.root): AsyncGenerator<IsoEntry> {
    const reader = this.#reader
    const seen = new Set<number>()
    // Directories do not overlap, so together they are no longer than the image. This is what bounds a hostile one.
    let left = Math.min(reader.source.size, mostDirectoryBytes)
    const budget = new AreaBudget(reader)
    const enter = (directory: IsoEntry) => {
      const { offset, length } = this.#placeOf(directory)
      left -= length
      if (seen.has(offset) || left < 0) {
        throw reader.corrupt(
          `the directory '${directory.path}' goes in a circle, or shares its bytes with another one`,
          {
            field: 'location of extent',
            value: offset,
            rule: 'directories that do not overlap',
          },
        )
      }
      seen.add(offset)
      return this.#list(directory, budget)
    }
    const open = [enter(from)]
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const { done, value: entry } = await top.next()
      if (done === true) {
        open.pop()
        continue
      }
      yield entry
      if (entry.kind !== 'directory') continue
      if (open.length === mostDepth) {
        throw new MoraineError('limit', `directories are nested too deep at '${entry.path}'`, {
          path: reader.source.name,
          format: 'iso',
          field: 'depth',
          rule: `at most ${mostDepth}`,
        })
      }
      open.push(enter(entry))
    }
  }

  /** The entry of a path, symbolic links on the way followed; the last one too, unless `follow` is false.
   *  @throws MoraineError `missing` where there is none; `invalid` where a part of it is no directory; `limit` for too many links. */
  async find(path: string, { follow = true }: { follow?: boolean } = {}): Promise<IsoEntry> {
    const trail = [this.root]
    const todo = path.split('/').reverse()
    let links = 0
    for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
      if (part === '' || part === '.') continue
      if (part === '..') {
        if (trail.length > 1) trail.pop()
        continue
      }
      const entry = await this.#child(trail.at(-1) ?? this.root, part)
      if (entry.kind !== 'symlink' || (todo.every((rest) => rest === '') && !follow)) {
        trail.push(entry)
        continue
      }
      const target = entry.target ?? ''
      if (target === '' || ++links > mostLinks) throw this.#missing(path, 'a symbolic link on the way leads nowhere')
      if (target.startsWith('/')) trail.length = 1
      todo.push(...target.split('/').reverse())
    }
    return trail.at(-1) ?? this.root
  }

  /** The data of a file, read where it lies in the image: nothing is copied. What zisofs packed is unpacked in blocks while it is read.
   *  @throws MoraineError `invalid` for what is no file; `unsupported` for sparse and interleaved files; `corrupt` where it lies outside the image; `io`. */
  async open(entry: IsoEntry): Promise<ByteSource> {
    const stored = this.#openStored(entry)
    return entry.packed === undefined ? stored : await openZisofs(stored, entry.packed)
  }

  #openStored(entry: IsoEntry): ByteSource {
    const { source } = this.#reader
    const place = { path: source.name, format: 'iso', field: entry.path }
    if (entry.kind !== 'file')
      throw new MoraineError('invalid', `'${entry.path}' is a ${entry.kind}, not a file`, place)
    if (entry.unreadable !== undefined) {
      throw new MoraineError('unsupported', `'${entry.path}' cannot be read: ${entry.unreadable}`, place)
    }
    const name = `${source.name}#${entry.path}`
    const parts = entry.extents.map(({ offset, length }) => {
      if (length > 0 && offset + length > source.size) {
        throw this.#reader.corrupt(`the file '${entry.path}' passes the end of the image`, {
          field: 'location of extent',
          value: offset,
          rule: `its ${length} bytes before byte ${source.size}`,
        })
      }
      return sliceSource(source, length === 0 ? 0 : offset, length, { name })
    })
    const [first] = parts
    return parts.length === 1 && first !== undefined ? first : joinedSource(name, parts)
  }

  /** The boot catalogue of El Torito, where there is one.
   *  @throws MoraineError `io`. */
  async bootCatalog(): Promise<IsoBootCatalog | undefined> {
    const block = this.descriptors.bootCatalog
    return block === undefined ? undefined : await readBootCatalog(this.#reader, block)
  }

  /** What stands before the volume: partition tables of hybrid images.
   *  @throws MoraineError `io`. */
  async systemArea(): Promise<IsoSystemArea> {
    return await readSystemArea(this.#reader)
  }

  /** Compares the path tables with each other and with the tree, which is walked for it.
   *  @throws MoraineError as `walk`. */
  async checkPathTables(): Promise<PathTableReport> {
    const places = new Set<number>([this.tree.root.block])
    for await (const { kind, extents } of this.walk()) {
      const [extent] = extents
      if (kind === 'directory' && extent !== undefined) places.add(extent.offset / this.#reader.blockSize)
    }
    return await checkPathTables(this.#reader, this.tree, places)
  }

  async #child(directory: IsoEntry, name: string): Promise<IsoEntry> {
    const wanted = this.names === 'plain' ? name.toLowerCase() : name
    for await (const entry of this.list(directory)) {
      if (entry.name === wanted) return entry
    }
    throw this.#missing(`${directory.path === '/' ? '' : directory.path}/${name}`, 'there is no such file')
  }

  #missing(path: string, why: string): MoraineError {
    return new MoraineError('missing', `'${path}' is not in the image: ${why}`, {
      path: this.source.name,
      format: 'iso',
      field: path,
    })
  }

  #placeOf({ path, kind, extents }: IsoEntry): DirectoryPlace {
    const [extent] = extents
    if (kind === 'directory' && extents.length === 1 && extent !== undefined) return { path, ...extent }
    throw new MoraineError('invalid', `'${path}' is no directory`, {
      path: this.source.name,
      format: 'iso',
      field: path,
    })
  }

  /** A directory that stands elsewhere: how long it is, its own first record says. */
  async #followChild(entry: IsoEntry, block: number): Promise<void> {
    const offset = block * this.#reader.blockSize
    const place = { path: entry.path, offset, length: 2048 }
    for await (const record of readRecords(this.#reader, place)) {
      entry.kind = 'directory'
      entry.size = record.size
      entry.extents = [{ offset, length: record.size }]
      return
    }
    throw this.#reader.corrupt(`the directory '${entry.path}', which stands elsewhere, is empty`, {
      field: 'CL',
      value: block,
      rule: 'a directory that begins with itself',
    })
  }
}
