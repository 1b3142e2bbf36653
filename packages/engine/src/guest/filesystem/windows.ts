/** File systems that Windows and firmware know: FAT, exFAT, NTFS. Labels lie in files, which are looked up. Facts: Microsoft, FAT specification 1.03 and exFAT specification; NTFS as
 *  Linux, fs/ntfs3 reads it; which labels count is as libblkid has it. */
import { fields, isPower, latin1, name, stands } from '../../bytes/header.ts'
import { u64le, viewOf } from '../../bytes/integers.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { type Reading, regionAt } from '../reading.ts'
import { serialText } from './identity.ts'
import { finite, utf16At } from './linux.ts'
import type { Regions } from './regions.ts'

/** Directory entries that are looked at for a label. */
const mostDirectoryBytes = 16 * 1024

/** FAT12, FAT16 and FAT32. */
export function* readFat({ start }: Regions): Reading<GuestContent | undefined> {
  const view = fields(start, 0, 512)
  const sectorBytes = view.getUint16(11, true)
  const clusterSectors = view.getUint8(13)
  const reserved = view.getUint16(14, true)
  const fats = view.getUint8(16)
  const media = view.getUint8(21)
  if (!stands(start, '\x55\xaa', 510) || !isPower(sectorBytes, 512, 4096) || !isPower(clusterSectors, 1, 128))
    return undefined
  if (fats < 1 || fats > 2 || !(media === 0xf0 || media >= 0xf8)) return undefined
  const rootEntries = view.getUint16(17, true)
  const sectors = view.getUint16(19, true) || view.getUint32(32, true)
  const is32 = view.getUint16(22, true) === 0 && rootEntries === 0
  const fatSectors = view.getUint16(22, true) || view.getUint32(36, true)
  const rootSectors = Math.ceil((rootEntries * 32) / sectorBytes)
  const dataAt = reserved + fats * fatSectors + rootSectors
  const clusters = Math.floor((sectors - dataAt) / clusterSectors)
  const rootAt = is32 ? dataAt + (view.getUint32(44, true) - 2) * clusterSectors : reserved + fats * fatSectors
  const rootBytes = is32 ? clusterSectors * sectorBytes : rootEntries * 32
  const directory = yield* regionAt(rootAt * sectorBytes, Math.min(rootBytes, mostDirectoryBytes))
  const at = is32 ? 67 : 39
  const hasSerial = [0x28, 0x29].includes(start[at - 1] ?? 0)
  const inHeader = start[at - 1] === 0x29 ? latin1(start, at + 4, at + 15).trim() : ''
  return {
    kind: 'file-system',
    format: 'fat',
    subformat: is32 ? 'FAT32' : clusters < 4085 ? 'FAT12' : 'FAT16',
    evidence: '55 aa at 510 and a sane BIOS parameter block',
    facts: factsOf({
      label: fatLabel(directory) ?? (inHeader === 'NO NAME' ? '' : name(inHeader)),
      uuid: hasSerial ? serialText(view.getUint32(at, true)) : undefined,
      blockSize: clusterSectors * sectorBytes,
      size: sectors * sectorBytes,
    }),
  }
}

const labelAttribute = 8
const longName = 15

/** The entry of the root directory that is a label. */
function fatLabel(directory: Uint8Array): string | undefined {
  for (let at = 0; at + 32 <= directory.length; at += 32) {
    const first = directory[at] as number
    if (first === 0) return undefined
    const attributes = directory[at + 11] as number
    if (
      first === 0xe5 ||
      (attributes & longName) === longName ||
      (attributes & (labelAttribute | 16)) !== labelAttribute
    )
      continue
    return name(latin1(directory, at, at + 11))
  }
  return undefined
}

/** exFAT. */
export function* readExfat({ start }: Regions): Reading<GuestContent | undefined> {
  if (!stands(start, 'EXFAT   ', 3)) return undefined
  const view = fields(start, 0, 512)
  const [sectorShift, clusterShift] = [view.getUint8(108), view.getUint8(109)]
  if (sectorShift < 9 || sectorShift > 12 || clusterShift > 25 - sectorShift) return undefined
  const sectorBytes = 2 ** sectorShift
  const clusterBytes = sectorBytes * 2 ** clusterShift
  const rootAt = view.getUint32(88, true) * sectorBytes + (view.getUint32(96, true) - 2) * clusterBytes
  const directory = yield* regionAt(rootAt, Math.min(clusterBytes, mostDirectoryBytes))
  return {
    kind: 'file-system',
    format: 'exfat',
    evidence: '"EXFAT   " at 3',
    facts: factsOf({
      label: exfatLabel(directory),
      uuid: serialText(view.getUint32(100, true)),
      blockSize: clusterBytes,
      size: finite(u64le(view, 72) * sectorBytes),
    }),
  }
}

const exfatLabelEntry = 0x83

function exfatLabel(directory: Uint8Array): string | undefined {
  for (let at = 0; at + 32 <= directory.length; at += 32) {
    if (directory[at] === 0) return undefined
    if (directory[at] === exfatLabelEntry) return utf16At(directory, at + 2, Math.min(directory[at + 1] as number, 11))
  }
  return undefined
}

const volumeRecord = 3
const nameAttribute = 0x60
const mostRecordBytes = 65_536

/** NTFS. */
export function* readNtfs({ start }: Regions): Reading<GuestContent | undefined> {
  if (!stands(start, 'NTFS    ', 3)) return undefined
  const view = fields(start, 0, 512)
  const sectorBytes = view.getUint16(11, true)
  const written = view.getUint8(13)
  // More than 128 sectors are written as a power.
  const clusterBytes = sectorBytes * (written > 128 ? 2 ** Math.min(256 - written, 31) : written)
  if (!isPower(sectorBytes, 256, 4096) || !isPower(clusterBytes, 256, 2 ** 21)) return undefined
  const size = view.getInt8(64)
  const recordBytes = size < 0 ? 2 ** Math.min(-size, 31) : size * clusterBytes
  const serial = view.getBigUint64(72, true)
  const at = u64le(view, 48) * clusterBytes + volumeRecord * recordBytes
  const record = isPower(recordBytes, 512, mostRecordBytes) ? yield* regionAt(at, recordBytes) : new Uint8Array(0)
  return {
    kind: 'file-system',
    format: 'ntfs',
    evidence: '"NTFS    " at 3',
    facts: factsOf({
      label: ntfsLabel(record),
      uuid: serial.toString(16).toUpperCase().padStart(16, '0'),
      blockSize: clusterBytes,
      size: finite(u64le(view, 40) * sectorBytes),
    }),
  }
}

/** The name of the volume, in the record of the file $Volume. */
function ntfsLabel(record: Uint8Array): string | undefined {
  if (!stands(record, 'FILE') || record.length < 512) return undefined
  const view = viewOf(record)
  for (let at = view.getUint16(20, true), count = 0; at + 24 <= record.length && count < 64; count++) {
    const type = view.getUint32(at, true)
    const length = view.getUint32(at + 4, true)
    if (type === 0xffff_ffff || length < 24) return undefined
    if (type === nameAttribute && record[at + 8] === 0) {
      const units = Math.floor(view.getUint32(at + 16, true) / 2)
      return utf16At(record, at + view.getUint16(at + 20, true), Math.min(units, 128))
    }
    at += length
  }
  return undefined
}
