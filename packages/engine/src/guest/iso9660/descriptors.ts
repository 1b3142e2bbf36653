/** The volume descriptors of an ISO 9660 volume. Facts: ECMA-119 4th edition, section 8; Joliet specification; ECMA-167 part 2 (recognition sequence of UDF). */
import { viewOf } from '../../bytes/integers.ts'
import { type ByteSource, MoraineError, readPadded } from '../../core/index.ts'
import { readIsoVolume } from '../../format/iso/volume.ts'
import {
  both16,
  both32,
  type DirectoryRecord,
  type DoubtAbout,
  latin1,
  readLongDate,
  readPaddedText,
  readRecord,
  readUtf16be,
  sectorBytes,
} from './layout.ts'

/** How many descriptors are looked at. */
const mostDescriptors = 64
const firstSector = 16

/** A primary or supplementary volume descriptor. */
export interface VolumeDescriptor {
  /** Byte offset in the image. */
  at: number
  kind: 'primary' | 'joliet' | 'enhanced' | 'supplementary'
  systemId: string
  volumeId: string
  /** In logical blocks. */
  spaceSize: number
  /** Bytes of a logical block: 512, 1024 or 2048. */
  blockSize: number
  /** Bytes of a path table, and the logical blocks of its two forms. */
  pathTable: { size: number; little: number; big: number }
  root: DirectoryRecord
  volumeSetId: string
  publisher: string
  preparer: string
  application: string
  copyrightFile: string
  abstractFile: string
  bibliographicFile: string
  /** Seconds since 1970. */
  created: number | undefined
  modified: number | undefined
  expires: number | undefined
  effective: number | undefined
}

/** What stands from sector 16 on. */
export interface Descriptors {
  primary: VolumeDescriptor
  supplementary: VolumeDescriptor[]
  /** Logical block of El Torito's catalogue. */
  bootCatalog: number | undefined
  /** Volume partitions, by their names. */
  partitions: { id: string; block: number; blocks: number }[]
  terminated: boolean
  /** `NSR02` or `NSR03` where a UDF volume shares the disc. */
  udf: string | undefined
}

/** Reads the descriptors.
 *  @throws MoraineError `not-this-format`; `unsupported` for a volume of UDF alone; `corrupt` where the primary descriptor makes no sense; `io`. */
export async function readDescriptors(
  source: ByteSource,
  doubt: DoubtAbout,
  signal?: AbortSignal,
): Promise<Descriptors> {
  const head = new Uint8Array((firstSector + mostDescriptors) * sectorBytes)
  await readPadded(source, 0, head, signal)
  const volume = readIsoVolume(head)
  let primary: VolumeDescriptor | undefined
  const found: Omit<Descriptors, 'primary'> = {
    supplementary: [],
    bootCatalog: undefined,
    partitions: [],
    terminated: false,
    udf: volume?.udf,
  }
  for (let sector = firstSector; sector < firstSector + mostDescriptors; sector++) {
    const at = sector * sectorBytes
    const bytes = head.subarray(at, at + sectorBytes)
    if (latin1(bytes.subarray(1, 6)) !== 'CD001') break
    const type = bytes[0] ?? 0
    if (type === 255) {
      found.terminated = true
      break
    }
    if (type === 0 && latin1(bytes.subarray(7, 30)) === 'EL TORITO SPECIFICATION') {
      found.bootCatalog ??= viewOf(bytes).getUint32(71, true)
    } else if (type === 1) primary ??= readVolume(source, bytes, at, doubt)
    else if (type === 2) found.supplementary.push(readVolume(source, bytes, at, doubt))
    else if (type === 3) {
      found.partitions.push({
        id: readPaddedText(bytes.subarray(40, 72)),
        block: both32(viewOf(bytes), 72, 'volume partition location', doubt),
        blocks: both32(viewOf(bytes), 80, 'volume partition size', doubt),
      })
    }
  }
  if (primary !== undefined) return { primary, ...found }
  if (volume?.udf !== undefined) {
    throw new MoraineError('unsupported', 'it has a file system of UDF alone, which is recognised and not read', {
      path: source.name,
      format: 'iso',
      field: 'volume descriptors',
      value: volume.udf,
      rule: 'a primary volume descriptor of ISO 9660',
    })
  }
  throw new MoraineError('not-this-format', 'it has no ISO 9660 volume', {
    path: source.name,
    format: 'iso',
    offset: firstSector * sectorBytes,
    rule: 'a primary volume descriptor from sector 16 on',
  })
}

function kindOf(bytes: Uint8Array): VolumeDescriptor['kind'] {
  if (bytes[0] === 1) return 'primary'
  if (/^%\/[@CE]/.test(latin1(bytes.subarray(88, 91)))) return 'joliet'
  return bytes[6] === 2 ? 'enhanced' : 'supplementary'
}

function readVolume(source: ByteSource, bytes: Uint8Array, at: number, doubt: DoubtAbout): VolumeDescriptor {
  const corrupt = (reason: string, field: string, value: number, rule: string): MoraineError =>
    new MoraineError('corrupt', reason, { path: source.name, format: 'iso', field, value, rule, offset: at })
  const view = viewOf(bytes)
  const kind = kindOf(bytes)
  const text = (from: number, to: number): string => {
    const field = bytes.subarray(from, to)
    return kind === 'joliet' ? (readUtf16be(field).split('\0')[0] ?? '').trimEnd() : readPaddedText(field)
  }
  const blockSize = both16(view, 128, 'logical block size', doubt)
  if (![512, 1024, 2048].includes(blockSize)) {
    throw corrupt('the volume has blocks of an odd size', 'logical block size', blockSize, '512, 1024 or 2048')
  }
  const root = readRecord(bytes.subarray(156, 190), at + 156, doubt)
  if (root === undefined) {
    throw corrupt(
      'the record of the root directory makes no sense',
      'root directory record',
      bytes[156] ?? 0,
      '34 bytes',
    )
  }
  return {
    at,
    kind,
    systemId: text(8, 40),
    volumeId: text(40, 72),
    spaceSize: both32(view, 80, 'volume space size', doubt),
    blockSize,
    pathTable: {
      size: both32(view, 132, 'path table size', doubt),
      little: view.getUint32(140, true),
      big: view.getUint32(148),
    },
    root,
    volumeSetId: text(190, 318),
    publisher: text(318, 446),
    preparer: text(446, 574),
    application: text(574, 702),
    copyrightFile: text(702, 739),
    abstractFile: text(739, 776),
    bibliographicFile: text(776, 813),
    created: readLongDate(bytes.subarray(813, 830)),
    modified: readLongDate(bytes.subarray(830, 847)),
    expires: readLongDate(bytes.subarray(847, 864)),
    effective: readLongDate(bytes.subarray(864, 881)),
  }
}
