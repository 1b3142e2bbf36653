/** The records of one directory, read in pieces: a directory of any size costs the same memory. */
import { MoraineError } from '../../core/index.ts'
import { type DirectoryRecord, readRecord, recordFlags, sectorBytes } from './layout.ts'
import type { VolumeReader } from './volume-reader.ts'

const pieceBytes = 32 * sectorBytes
/** Extents of one file: enough for 8 TiB. */
const mostExtents = 2048

/** Where a directory lies. Bytes. */
export interface DirectoryPlace {
  path: string
  offset: number
  length: number
}

/** All records of a directory, those of itself and of its parent first.
 *  @throws MoraineError `corrupt` where it lies outside the image or has records that make no sense; `limit`; `io`. */
export async function* readRecords(reader: VolumeReader, place: DirectoryPlace): AsyncGenerator<DirectoryRecord> {
  checkPlace(reader, place)
  for (let done = 0; done < place.length; done += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, place.length - done))
    await reader.source.read(place.offset + done, piece, reader.signal)
    for (let sector = 0; sector < piece.length; sector += sectorBytes) {
      yield* readSector(reader, place, piece.subarray(sector, sector + sectorBytes), place.offset + done + sector)
    }
  }
}

function* readSector(
  reader: VolumeReader,
  place: DirectoryPlace,
  sector: Uint8Array,
  offset: number,
): Generator<DirectoryRecord> {
  // No record crosses the end of its sector; a length of zero says that the rest is empty.
  for (let at = 0; at < sector.length && sector[at] !== 0; at += sector[at] ?? 0) {
    const record = readRecord(sector.subarray(at), offset + at, reader.doubt)
    if (record === undefined) {
      throw reader.corrupt(`a record of the directory '${place.path}' makes no sense`, {
        field: 'length of directory record',
        value: sector[at] ?? 0,
        offset: offset + at,
        rule: `at least 34, with its identifier within it, at most the ${sector.length - at} bytes left of the sector`,
      })
    }
    yield record
  }
}

function checkPlace(reader: VolumeReader, { path, offset, length }: DirectoryPlace): void {
  if (length > reader.limits.tableBytes) {
    throw new MoraineError('limit', `the directory '${path}' is too long`, {
      path: reader.source.name,
      format: 'iso',
      field: 'data length',
      value: length,
      rule: `at most ${reader.limits.tableBytes}`,
    })
  }
  if (offset + length > reader.source.size) {
    throw reader.corrupt(`the directory '${path}' passes the end of the image`, {
      field: 'location of extent',
      value: offset,
      rule: `its ${length} bytes before byte ${reader.source.size}`,
    })
  }
}

/** The records that are files, grouped: those of one file in several extents follow one another.
 *  @throws MoraineError as `readRecords`; `corrupt` where a file does not go on. */
export async function* readFiles(reader: VolumeReader, place: DirectoryPlace): AsyncGenerator<DirectoryRecord[]> {
  let open: DirectoryRecord[] = []
  for await (const record of readRecords(reader, place)) {
    // Itself and its parent.
    if (record.identifier.length === 1 && (record.identifier[0] ?? 0) <= 1) continue
    if ((record.flags & recordFlags.associated) !== 0) continue
    const [first] = open
    if (first !== undefined && !sameBytes(first.identifier, record.identifier)) throw cutFile(reader, place, first)
    open.push(record)
    if ((record.flags & recordFlags.more) !== 0) {
      if (open.length === mostExtents) throw cutFile(reader, place, record)
      continue
    }
    yield open
    open = []
  }
  const [first] = open
  if (first !== undefined) throw cutFile(reader, place, first)
}

function cutFile(reader: VolumeReader, { path }: DirectoryPlace, record: DirectoryRecord): Error {
  return reader.corrupt(`a file of the directory '${path}' says that it has more extents than there are`, {
    field: 'file flags',
    value: record.flags,
    offset: record.at,
    rule: `at most ${mostExtents} records of the same name in a row, the last without bit 7`,
  })
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at])
}
