/** The header of LUKS version 2: a binary part with a checksum, then JSON. Facts: LUKS2 On-Disk Format Specification 1.1.1. Binary numbers are big-endian. */
import { u64be, viewOf } from '../bytes/integers.ts'
import {
  type ByteSource,
  type CryptoLibrary,
  type DetailValue,
  type ErrorKind,
  type ErrorPlace,
  MoraineError,
  readPadded,
} from '../core/index.ts'

const binaryBytes = 4096
const mostBytes = 4 * 1024 * 1024
/** Where the second header may begin. */
const copies = [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000]

/** Any object of the JSON. */
export type JsonObject = Record<string, unknown>

/** A header, as far as it is the same for everybody. */
export interface Luks2Header {
  json: JsonObject
  /** Byte offset of the encrypted bytes. */
  payloadOffset: number
  /** Bytes of them; undefined for all that follow. */
  payloadLength: number | undefined
  /** The segment of the payload. */
  segment: JsonObject
  details: Record<string, DetailValue>
}

/** An error about a container. */
export function luks2Fault(
  place: ErrorPlace,
  kind: ErrorKind,
  reason: string,
  field: string,
  value?: number | string,
  rule?: string,
): MoraineError {
  return new MoraineError(kind, reason, { ...place, format: 'luks2', field, value, rule })
}

/** Reads the header; with cryptography at hand its checksum is compared, and the second copy is read where the first is damaged.
 *  @throws MoraineError `invalid` when it is cut, larger than a header is, or says nothing of a payload; `corrupt` when both copies are damaged. */
export async function readLuks2Header(
  file: ByteSource,
  library: CryptoLibrary | undefined,
  place: ErrorPlace,
): Promise<Luks2Header> {
  const first = await readCopy(file, 0, library, place).catch((error: unknown) => error)
  if (!(first instanceof Error)) return decode(first as Copy, place)
  for (const offset of copies) {
    if (library === undefined || offset + binaryBytes > file.size) continue
    const copy = await readCopy(file, offset, library, place).catch(() => undefined)
    if (copy !== undefined) return decode(copy, place)
  }
  throw first
}

interface Copy {
  head: Uint8Array
  json: Uint8Array
}

async function readCopy(
  file: ByteSource,
  offset: number,
  library: CryptoLibrary | undefined,
  place: ErrorPlace,
): Promise<Copy> {
  const head = new Uint8Array(binaryBytes)
  await readPadded(file, offset, head)
  const magic = new TextDecoder('latin1').decode(head.subarray(0, 6))
  if (magic !== (offset === 0 ? 'LUKS\xba\xbe' : 'SKUL\xba\xbe') || viewOf(head).getUint16(6) !== 2) {
    throw luks2Fault(place, 'not-this-format', 'Volume is not in LUKS format', 'magic')
  }
  const length = u64be(viewOf(head), 8)
  if (length < binaryBytes * 2 || length > mostBytes || offset + length > file.size) {
    const value = viewOf(head).getBigUint64(8).toString()
    throw luks2Fault(place, 'invalid', 'the header has an impossible size', 'hdr_size', value, '8 KiB to 4 MiB')
  }
  const json = new Uint8Array(length - binaryBytes)
  await file.read(offset + binaryBytes, json)
  const hash = library?.hashes.sha256
  if (hash !== undefined && textAt(head, 72, 32) === 'sha256') {
    const blank = head.slice()
    blank.fill(0, 448, 512)
    if (hash(blank, json).some((byte, i) => byte !== head[448 + i])) {
      throw luks2Fault(place, 'corrupt', 'the checksum of the header is wrong', 'csum')
    }
  }
  return { head, json }
}

function decode({ head, json: area }: Copy, place: ErrorPlace): Luks2Header {
  const json = parse(area)
  const segments = objectAt(json, 'segments')
  const segment = objectAt(segments, '0')
  const payloadOffset = byteCount(segment.offset)
  if (payloadOffset === undefined) {
    throw luks2Fault(place, 'invalid', 'the header says nothing of a payload', 'segments')
  }
  const details: Record<string, DetailValue> = { uuid: textAt(head, 168, 40) }
  const label = textAt(head, 24, 48)
  if (label !== '') details.label = label
  if (typeof segment.encryption === 'string') details.cipher = segment.encryption.slice(0, 64)
  if (typeof segment.sector_size === 'number') details['sector-size'] = segment.sector_size
  const hash = objectAt(objectAt(json, 'digests'), '0').hash
  if (typeof hash === 'string') details['hash-alg'] = hash.slice(0, 32)
  details.slots = Object.entries(objectAt(json, 'keyslots'))
    .slice(0, 32)
    .map(([slot]) => slotOf(Number(slot), objectAt(objectAt(json, 'keyslots'), slot)))
  details['payload-offset'] = payloadOffset
  return { json, payloadOffset, payloadLength: byteCount(segment.size), segment, details }
}

function slotOf(slot: number, keyslot: JsonObject): DetailValue {
  const fact: Record<string, DetailValue> = { slot }
  const kdf = objectAt(keyslot, 'kdf').type
  if (typeof kdf === 'string') fact.kdf = kdf.slice(0, 32)
  if (typeof keyslot.key_size === 'number') fact['key-bytes'] = keyslot.key_size
  return fact
}

function textAt(bytes: Uint8Array, at: number, length: number): string {
  const part = bytes.subarray(at, at + length)
  const end = part.indexOf(0)
  return new TextDecoder('latin1').decode(end < 0 ? part : part.subarray(0, end))
}

function parse(area: Uint8Array): JsonObject {
  const end = area.indexOf(0)
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(end < 0 ? area : area.subarray(0, end)))
    return typeof value === 'object' && value !== null ? (value as JsonObject) : {}
  } catch {
    return {}
  }
}

/** A number of bytes as it stands in the JSON: a decimal text, as numbers of JSON are not large enough. */
export function byteCount(value: unknown): number | undefined {
  if (typeof value !== 'string' || !/^\d{1,16}$/.test(value)) return undefined
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : undefined
}

/** A member that is an object; an empty one where it is not. */
export function objectAt(of: JsonObject, key: string): JsonObject {
  const value = Object.hasOwn(of, key) ? of[key] : undefined
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {}
}
