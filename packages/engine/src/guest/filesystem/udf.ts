/** UDF, where a volume has it alone: its label, and the number by which blkid knows it. Facts: ECMA-167 3/8.4.2, 3/10.1 to 3/10.6; UDF 2.60, 2.1.2; libblkid, `udf.c`. */
import { cut, fields, name, stands } from '../../bytes/header.ts'
import { readIsoVolume } from '../../format/iso/volume.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { type Reading, readingHead, regionAt } from '../reading.ts'
import { opticalHead, type Regions } from './regions.ts'

const anchorSector = 256
const sectorSizes = [512, 1024, 2048, 4096] as const
const tags = { primary: 1, anchor: 2, logical: 6, end: 8 } as const
/** Descriptors of the main sequence that are looked at. */
const mostDescriptors = 16

/** UDF alone. A volume that has ISO 9660 too is told as one of that. */
export function* readUdf(regions: Regions): Reading<GuestContent | undefined> {
  const { at32 } = regions
  const volume = readIsoVolume(opticalHead(regions))
  const kind = volume?.udf ?? kindInLargeSectors(at32.bytes)
  if (kind === undefined || volume?.primary !== undefined) return undefined
  const facts = yield* readSequence()
  return {
    kind: 'file-system',
    format: 'udf',
    subformat: kind,
    evidence: `"${kind}" behind ${at32.offset}`,
    facts: factsOf({ ...facts }),
  }
}

/** In sectors of 4096 bytes each descriptor of the recognition sequence has one of its own. Facts: ECMA-167 2/8.3. */
function kindInLargeSectors(bytes: Uint8Array): string | undefined {
  return stands(bytes, 'BEA01', 1) ? ['NSR02', 'NSR03'].find((id) => stands(bytes, id, 4097)) : undefined
}

/** Whether a descriptor is of a kind and says that it stands in this sector. */
function isTagged(bytes: Uint8Array, tag: number, sector: number): boolean {
  const view = fields(bytes, 0, 16)
  const sum = cut(bytes, 0, 16).reduce((all, byte, at) => (at === 4 ? all : all + byte), 0)
  return view.getUint16(0, true) === tag && (sum & 255) === view.getUint8(4) && view.getUint32(12, true) === sector
}

interface Facts {
  label?: string | undefined
  uuid?: string | undefined
  blockSize?: number | undefined
}

/** Looks for the anchor in each size of sectors, then at the sequence of descriptors that it names. */
function* readSequence(): Reading<Facts> {
  for (const sectorBytes of sectorSizes) {
    if (sectorBytes === 1024) yield* beforeAnchor()
    const anchor = yield* regionAt(anchorSector * sectorBytes, 512)
    if (!isTagged(anchor, tags.anchor, anchorSector)) continue
    const view = fields(anchor, 16, 8)
    const [length, first] = [view.getUint32(0, true), view.getUint32(4, true)]
    const facts: Facts = { blockSize: sectorBytes }
    for (let at = 0; at < Math.min(mostDescriptors, length / sectorBytes); at++) {
      const sector = first + at
      const bytes = yield* regionAt(sector * sectorBytes, 512)
      if (isTagged(bytes, tags.primary, sector)) facts.uuid = uuidOf(wordAt(bytes, 72, 128))
      if (isTagged(bytes, tags.logical, sector)) facts.label = name(wordAt(bytes, 84, 128))
      if (isTagged(bytes, tags.end, sector)) break
    }
    return facts
  }
  return {}
}

/** The sequence may stand before its anchor, as mkudffs has it (from sector 96 on), where a stream does not come back: so all before the anchor in sectors of 2048 bytes is had first, which is
 *  384 KiB. Of sectors of 4096 bytes these are the first 128; in a stream, what stands between there and their anchor is not seen. */
function* beforeAnchor(): Reading<void> {
  const start = readingHead + 512
  yield* regionAt(start, anchorSector * 2048 - start)
}

/** A text of UDF: how its letters are written comes first, and its length last. */
function wordAt(bytes: Uint8Array, at: number, length: number): string {
  const field = cut(bytes, at, length)
  const used = Math.min(field[length - 1] ?? 0, length - 1)
  const letters = field.subarray(1, Math.max(1, used))
  if (field[0] === 8 || field[0] === 254) return new TextDecoder('latin1').decode(letters)
  return field[0] === 16 || field[0] === 255 ? new TextDecoder('utf-16be').decode(letters) : ''
}

/** The number of a volume: the first sixteen digits of its set's name, which begins with the time when it was made; what are no digits are told by their bytes. */
function uuidOf(set: string): string {
  const bytes = new TextEncoder().encode(set).subarray(0, 16)
  if (bytes.length < 8) return ''
  const digits = [...bytes].findIndex((byte) => !/[0-9A-Fa-f]/.test(String.fromCharCode(byte)))
  const text = (from: number, to: number) => new TextDecoder().decode(bytes.subarray(from, to)).toLowerCase()
  const hex = (from: number, to: number) =>
    [...bytes.subarray(from, to)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  if (digits < 0 && bytes.length === 16) return text(0, 16)
  return digits >= 0 && digits < 8 ? hex(0, 8) : text(0, 8) + hex(8, 12)
}
