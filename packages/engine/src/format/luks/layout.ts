/** LUKS containers on disk, as far as they can be told without a key. Facts: the LUKS1 On-Disk Format Specification 1.2.3, the LUKS2 On-Disk Format Specification
 *  1.1; the terms of version 1 are those of QEMU 7.2. All numbers are big-endian. */
import { u64be, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type DetailValue, type ErrorKind, MoraineError, readPadded } from '../../core/index.ts'

const sectorBytes = 512
const firstBytes = 592
const secondBytes = 4096
const mostSecondBytes = 4 * 1024 * 1024
const activeSlot = 0x00ac_71f3
const slots = 8

/** What a header says. */
export interface LuksFacts {
  /** Byte offset of the encrypted bytes. */
  payloadOffset: number
  /** Bytes of them; undefined for all that follow. */
  payloadLength: number | undefined
  details: Record<string, DetailValue>
}

/** The version of a container that begins with these bytes; undefined for anything else. */
export function luksVersion(head: Uint8Array): number | undefined {
  const magic = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]
  if (head.length < 8 || magic.some((byte, i) => head[i] !== byte)) return undefined
  return viewOf(head).getUint16(6)
}

/** An error about a container. */
export function luksFault(path: string, kind: ErrorKind, reason: string, field: string, value?: number | string) {
  return new MoraineError(kind, reason, { path, format: 'luks', field, value })
}

function textAt(bytes: Uint8Array, at: number, length: number): string {
  const part = bytes.subarray(at, at + length)
  const end = part.indexOf(0)
  return new TextDecoder('latin1').decode(end < 0 ? part : part.subarray(0, end))
}

/** Reads a header of version 1.
 *  @throws MoraineError `invalid` when it is cut, or its payload lies outside the file. */
export async function readFirst(file: ByteSource): Promise<LuksFacts> {
  if (file.size < firstBytes) throw luksFault(file.name, 'invalid', 'the header is cut', 'header', file.size)
  const bytes = new Uint8Array(firstBytes)
  await file.read(0, bytes)
  const view = viewOf(bytes)
  const payloadOffset = view.getUint32(104) * sectorBytes
  if (payloadOffset > file.size) {
    throw luksFault(file.name, 'invalid', 'the payload lies outside the file', 'payload_offset', payloadOffset)
  }
  const [, mode = '', generator = '', generatorHash] = /^([^-]*)-?([^:]*):?(.*)$/.exec(textAt(bytes, 40, 32)) ?? []
  const keyBits = (view.getUint32(108) * 8) / (mode === 'xts' ? 2 : 1)
  const details: Record<string, DetailValue> = {
    'ivgen-alg': generator,
    'hash-alg': textAt(bytes, 72, 32),
    'cipher-alg': `${textAt(bytes, 8, 32)}-${keyBits}`,
    uuid: textAt(bytes, 168, 40),
    'cipher-mode': mode,
    slots: Array.from({ length: slots }, (_, slot) => slotAt(view, 208 + slot * 48)),
    'payload-offset': payloadOffset,
    'master-key-iters': view.getUint32(164),
  }
  if (generatorHash !== undefined && generatorHash !== '') details['ivgen-hash-alg'] = generatorHash
  return { payloadOffset, payloadLength: undefined, details }
}

function slotAt(view: DataView, at: number): DetailValue {
  const place = { 'key-offset': view.getUint32(at + 40) * sectorBytes }
  if (view.getUint32(at) !== activeSlot) return { active: false, ...place }
  return { active: true, iters: view.getUint32(at + 4), ...place, stripes: view.getUint32(at + 44) }
}

/** Reads a header of version 2.
 *  @throws MoraineError `invalid` when it is cut, larger than a header is, or says nothing of a payload. */
export async function readSecond(file: ByteSource): Promise<LuksFacts> {
  const head = new Uint8Array(secondBytes)
  await readPadded(file, 0, head)
  const length = u64be(viewOf(head), 8)
  if (length < secondBytes * 2 || length > mostSecondBytes || length > file.size) {
    const value = viewOf(head).getBigUint64(8).toString()
    throw luksFault(file.name, 'invalid', 'the header has an impossible size', 'hdr_size', value)
  }
  const area = new Uint8Array(length - secondBytes)
  await file.read(secondBytes, area)
  const json = parse(area)
  const segment = objectAt(objectAt(json, 'segments'), '0')
  const payloadOffset = Number(segment.offset)
  if (typeof segment.offset !== 'string' || !Number.isSafeInteger(payloadOffset) || payloadOffset < 0) {
    throw luksFault(file.name, 'invalid', 'the header says nothing of a payload', 'segments')
  }
  const given = Number(segment.size)
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
  return { payloadOffset, payloadLength: Number.isSafeInteger(given) && given >= 0 ? given : undefined, details }
}

function slotOf(slot: number, keyslot: Record<string, unknown>): DetailValue {
  const fact: Record<string, DetailValue> = { slot }
  const kdf = objectAt(keyslot, 'kdf').type
  if (typeof kdf === 'string') fact.kdf = kdf.slice(0, 32)
  if (typeof keyslot.key_size === 'number') fact['key-bytes'] = keyslot.key_size
  return fact
}

function parse(area: Uint8Array): Record<string, unknown> {
  const end = area.indexOf(0)
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(end < 0 ? area : area.subarray(0, end)))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

function objectAt(of: Record<string, unknown>, key: string): Record<string, unknown> {
  const value = Object.hasOwn(of, key) ? of[key] : undefined
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}
