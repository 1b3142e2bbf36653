/** Opening sparse extents: hosted, COWD, seSparse. Every count is checked here, before anything is read by it. Words of QEMU 7.2. */
import { divideUp } from '../../bytes/integers.ts'
import { type ByteSource, readPadded, retelling } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { GrainDirectory, seSparseEntry } from './grain-directory.ts'
import type { TableBudget } from './grain-tables.ts'
import { fault } from './image.ts'
import {
  bounds,
  flags,
  headerBytes,
  isCowd,
  isMarker,
  isSparse,
  markers,
  newlinesIntact,
  parseCowdHeader,
  parseSeSparseHeader,
  parseSparseHeader,
  type SparseHeader,
  sectorBytes,
  seSparseFault,
  seSparseShape,
  wideTableEntries,
} from './layout.ts'
import { SparseExtent } from './sparse-extent.ts'

/** QEMU's words for a file of which not even the beginning can be read. */
function fileUnread(reason: string): string {
  return `Could not read from file: ${reason}`
}

/** Reads the header of a hosted sparse extent. */
export async function readSparseHeader(file: ByteSource): Promise<{ header: SparseHeader; bytes: Uint8Array }> {
  const bytes = new Uint8Array(headerBytes)
  await retelling(fileUnread, () => readPadded(file, 0, bytes))
  return { header: parseSparseHeader(bytes), bytes }
}

/** Opens a sparse extent that a descriptor calls `SPARSE` or `VMFSSPARSE`. `budget`: that of the image, where it has several.
 *  @throws MoraineError `invalid`, `unsupported`, `corrupt`, `limit`. */
export async function openSparseExtent(
  file: ByteSource,
  context: OpenContext,
  budget?: TableBudget,
): Promise<SparseExtent> {
  if (file.size < 4) throw fault(file, 'invalid', 'File is too small, not a valid image', 'magic')
  const { header, bytes } = await readSparseHeader(file)
  if (isSparse(bytes)) return openHosted(file, header, bytes, context, budget)
  if (isCowd(bytes)) return openCowd(file, bytes, context, budget)
  throw fault(file, 'not-this-format', 'Image not in VMDK format', 'magic')
}

/** Opens a hosted sparse extent by its header. */
export async function openHosted(
  file: ByteSource,
  first: SparseHeader,
  bytes: Uint8Array,
  context: OpenContext,
  budget?: TableBudget,
): Promise<SparseExtent> {
  const closed = first.directory === 'atEnd'
  const header = closed ? await readFooter(file) : first
  const compressed = header.compression === 1
  if (header.version > 3) {
    throw fault(file, 'unsupported', `Unsupported VMDK version ${header.version}`, 'version', { value: header.version })
  }
  if (header.version === 3 && !compressed && context.mode === 'write') {
    throw fault(file, 'unsupported', 'VMDK version 3 must be read only', 'version', { value: 3 })
  }
  checkFeatures(file, header)
  if (header.tableEntries > bounds.tableEntries) {
    throw fault(file, 'invalid', 'L2 table size too big', 'numGTEsPerGT', {
      value: header.tableEntries,
      rule: `at most ${bounds.tableEntries}`,
    })
  }
  if (header.tableEntries === 0 || header.grainSectors === 0) {
    throw fault(file, 'invalid', 'L1 entry size is invalid', 'numGTEsPerGT', { rule: 'at least one grain' })
  }
  checkGrain(file, header.grainSectors)
  const directoryEntries = divideUp(header.capacity, header.tableEntries * header.grainSectors)
  checkSize(file, header.capacity, directoryEntries, context)
  if (divideUp(file.size, sectorBytes) < header.overhead) {
    throw fault(
      file,
      'corrupt',
      `File truncated, expecting at least ${header.overhead * sectorBytes} bytes`,
      'overHead',
      { value: header.overhead, rule: 'within the file' },
    )
  }
  if (compressed && header.grainSectors * sectorBytes > bounds.packedGrainBytes) {
    throw fault(file, 'limit', 'the compressed grains are too large', 'grainSize', {
      value: header.grainSectors,
      rule: `at most ${bounds.packedGrainBytes} bytes`,
    })
  }
  if ((header.flags & flags.newlines) !== 0 && !newlinesIntact(bytes)) {
    context.warn(`${file.name}: the header's newline characters were changed, as by a transfer in text mode`, 'advice')
  }
  const [directory, redundant] = directories(file, header, directoryEntries)
  return new SparseExtent(
    {
      file,
      kind: 'hosted',
      size: header.capacity * sectorBytes,
      grainBytes: header.grainSectors * sectorBytes,
      tableEntries: header.tableEntries,
      directory,
      redundant,
      version: header.version,
      compressed,
      markers: (header.flags & flags.markers) !== 0,
      zeroedGrains: (header.flags & flags.zeroedGrains) !== 0,
      closed,
      grains: 0,
    },
    context.limits,
    budget,
  )
}

/** The footer of a stream: marker, header, end. It overrides the header. */
async function readFooter(file: ByteSource): Promise<SparseHeader> {
  const bytes = new Uint8Array(3 * sectorBytes)
  const start = Math.ceil(file.size / sectorBytes) * sectorBytes - bytes.length
  const invalid = (): never => {
    throw fault(file, 'invalid', 'Invalid footer', 'footer', {
      offset: Math.max(0, start),
      rule: 'a footer marker, the header, and the end of the stream as the last three sectors',
    })
  }
  if (start < 0) return invalid()
  await readPadded(file, start, bytes)
  const header = bytes.subarray(sectorBytes, 2 * sectorBytes)
  const end = bytes.subarray(2 * sectorBytes)
  if (!isMarker(bytes, markers.footer) || !isSparse(header)) return invalid()
  if (!isMarker(end, markers.endOfStream) || end.subarray(0, 8).some((byte) => byte !== 0)) return invalid()
  const found = parseSparseHeader(header)
  return found.directory === 'atEnd' ? invalid() : found
}

function checkFeatures(file: ByteSource, header: SparseHeader): void {
  const known = flags.compressed | flags.markers
  const unknown = (header.flags & 0xffff_0000 & ~known) >>> 0
  if (unknown !== 0) {
    throw fault(file, 'unsupported', 'the extent has features that are not known', 'flags', {
      value: `0x${unknown.toString(16)}`,
    })
  }
  if (header.compression > 1) {
    throw fault(file, 'unsupported', 'the compression of the extent is not known', 'compressAlgorithm', {
      value: header.compression,
      rule: '0 (none) or 1 (deflate)',
    })
  }
}

function checkGrain(file: ByteSource, grainSectors: number): void {
  if (grainSectors >= 1 && grainSectors <= bounds.grainSectors) return
  throw fault(file, 'invalid', 'Invalid granularity, image may be corrupt', 'grainSize', {
    value: grainSectors,
    rule: `1 to ${bounds.grainSectors} sectors`,
  })
}

function checkSize(file: ByteSource, capacity: number, directoryEntries: number, { limits }: OpenContext): void {
  if (directoryEntries > bounds.directoryEntries) {
    throw fault(file, 'invalid', 'L1 size too big', 'capacity', {
      value: capacity,
      rule: `a grain directory of at most ${bounds.directoryEntries} entries`,
    })
  }
  if (capacity * sectorBytes > limits.virtualSize) {
    throw fault(file, 'limit', 'Image is too big', 'capacity', {
      value: capacity,
      rule: `at most ${limits.virtualSize} bytes`,
    })
  }
}

/** The directory and its redundant copy. Where the header has no place for the first, the copy serves. */
function directories(
  file: ByteSource,
  header: SparseHeader,
  entries: number,
): [GrainDirectory, GrainDirectory | undefined] {
  const make = (sector: number, field: string): GrainDirectory => {
    if (sector >= bounds.fileSectors) {
      throw fault(file, 'invalid', 'the grain directory is not in the file', field, {
        value: sector,
        rule: `below sector ${bounds.fileSectors}`,
      })
    }
    return new GrainDirectory(file, sector * sectorBytes, entries)
  }
  const copied = (header.flags & flags.redundant) !== 0 && header.redundantDirectory !== 0
  const copy = copied ? make(header.redundantDirectory, 'rgdOffset') : undefined
  if (header.directory === 0 && copy !== undefined) return [copy, undefined]
  return [make(header.directory as number, 'gdOffset'), copy]
}

function openCowd(file: ByteSource, bytes: Uint8Array, context: OpenContext, budget?: TableBudget): SparseExtent {
  if (context.mode === 'write') {
    throw fault(file, 'unsupported', 'COWD extents can only be read', 'magic')
  }
  const header = parseCowdHeader(bytes)
  checkGrain(file, header.grainSectors)
  checkSize(file, header.capacity, header.directoryEntries, context)
  const covered = header.directoryEntries * wideTableEntries * header.grainSectors
  if (covered < header.capacity) {
    throw fault(file, 'invalid', 'the grain directory is too small for the disk', 'l1dir_size', {
      value: header.directoryEntries,
      rule: `for ${header.capacity} sectors`,
    })
  }
  return new SparseExtent(
    {
      file,
      kind: 'cowd',
      size: header.capacity * sectorBytes,
      grainBytes: header.grainSectors * sectorBytes,
      tableEntries: wideTableEntries,
      directory: new GrainDirectory(file, header.directory * sectorBytes, header.directoryEntries),
      version: 1,
      compressed: false,
      markers: false,
      zeroedGrains: false,
      closed: true,
      grains: 0,
    },
    context.limits,
    budget,
  )
}

/** Opens a seSparse extent.
 *  @throws MoraineError `unsupported` for what was never documented, and for a journal that would have to be replayed. */
export async function openSeSparse(
  file: ByteSource,
  context: OpenContext,
  budget?: TableBudget,
): Promise<SparseExtent> {
  if (context.mode === 'write') {
    throw fault(file, 'unsupported', 'No write support for seSparse images available', 'magic')
  }
  const bytes = new Uint8Array(headerBytes)
  await readPadded(file, 0, bytes)
  const header = parseSeSparseHeader(bytes)
  if (typeof header === 'string') throw fault(file, 'unsupported', header, 'constant header')
  for (const [field, sector] of Object.entries(header)) {
    if (sector < 2 ** 43) continue
    throw fault(file, 'invalid', 'a field of the header is out of range', field, { value: sector })
  }
  await readPadded(file, header.volatileHeader * sectorBytes, bytes)
  const broken = seSparseFault(bytes)
  if (broken !== undefined) throw fault(file, 'unsupported', broken, 'volatile header')
  const entries = (header.directorySectors * sectorBytes) / 8
  checkSize(file, header.capacity, entries, context)
  const grainBytes = seSparseShape.grainSectors * sectorBytes
  const tableBytes = seSparseShape.tableSectors * sectorBytes
  if (entries * wideTableEntries * grainBytes < header.capacity * sectorBytes) {
    throw fault(file, 'invalid', 'the grain directory is too small for the disk', 'grain directory', {
      value: entries,
      rule: `for ${header.capacity} sectors`,
    })
  }
  const decode = seSparseEntry(header.tables * sectorBytes, tableBytes)
  return new SparseExtent(
    {
      file,
      kind: 'seSparse',
      size: header.capacity * sectorBytes,
      grainBytes,
      tableEntries: wideTableEntries,
      directory: new GrainDirectory(file, header.directory * sectorBytes, entries, decode, 8),
      version: 1,
      compressed: false,
      markers: false,
      zeroedGrains: true,
      closed: true,
      grains: header.grains * sectorBytes,
    },
    context.limits,
    budget,
  )
}
