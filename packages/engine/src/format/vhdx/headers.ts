/** The two headers, of which the valid one with the greater sequence number counts. Source: MS-VHDX 2.2.2. */
import { crc32cWithout } from '../../bytes/crc32c.ts'
import { readGuid, writeGuid } from '../../bytes/guid.ts'
import { u64le, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, readPadded } from '../../core/index.ts'
import { lengths, mib, places, vhdxFault } from './layout.ts'

/** What a header says. GUIDs as `readGuid` gives them; log offset and length in bytes. */
export interface Header {
  sequence: bigint
  /** Changes before the first write of a session. */
  fileWriteGuid: string
  /** Changes before the first write that the guest could see; children name it. */
  dataWriteGuid: string
  /** That of the entries which must be replayed; zeros when there are none. */
  logGuid: string
  logVersion: number
  logLength: number
  logOffset: number
}

/** Both headers of a file. */
export interface Headers {
  current: Header
  /** Which of the two it is. */
  slot: 0 | 1
  /** The bytes of each, 4 KiB: what is reserved in them is kept. */
  readonly bytes: [Uint8Array, Uint8Array]
  /** Which of them are whole. */
  readonly valid: [boolean, boolean]
}

const signature = 0x6461_6568 // "head"
const field = { checksum: 4, sequence: 8, fileWrite: 16, dataWrite: 32, log: 48, logVersion: 64, version: 66 }
const logField = { length: 68, offset: 72 }

/** Reads both headers and chooses.
 *  @throws MoraineError `corrupt` when none is valid, or both are with one number and different fields; `unsupported` for another log version;
 *  `invalid` for a log that is not a whole number of MiB behind the first. */
export async function readHeaders(file: ByteSource): Promise<Headers> {
  const bytes: Headers['bytes'] = [new Uint8Array(lengths.header), new Uint8Array(lengths.header)]
  await Promise.all(bytes.map((into, slot) => readPadded(file, places.headers[slot as 0 | 1], into)))
  const [first, second] = bytes.map(decodeHeader)
  const slot = currentSlot(file.name, first, second, bytes)
  const current = (slot === 0 ? first : second) as Header
  checkLog(file.name, current)
  return { current, slot, bytes, valid: [first !== undefined, second !== undefined] }
}

function currentSlot(
  path: string,
  first: Header | undefined,
  second: Header | undefined,
  bytes: Headers['bytes'],
): 0 | 1 {
  const none = (rule: string) => vhdxFault(path, 'corrupt', 'headers', { rule }, 'No valid VHDX header found')
  if (first === undefined && second === undefined) {
    throw none('at least one header with signature, checksum and version 1')
  }
  if (second === undefined) return 0
  if (first === undefined) return 1
  if (first.sequence !== second.sequence) return first.sequence > second.sequence ? 0 : 1
  // Disk2vhd writes one header twice.
  const [a, b] = bytes.map((header) => header.subarray(0, lengths.headerFields))
  if (a?.every((byte, i) => byte === b?.[i])) return 0
  throw none('two different sequence numbers, or two equal headers')
}

function decodeHeader(bytes: Uint8Array): Header | undefined {
  const view = viewOf(bytes)
  if (view.getUint32(0, true) !== signature || view.getUint16(field.version, true) !== 1) return undefined
  if (view.getUint32(field.checksum, true) !== crc32cWithout(bytes, field.checksum)) return undefined
  return {
    sequence: view.getBigUint64(field.sequence, true),
    fileWriteGuid: readGuid(bytes, field.fileWrite),
    dataWriteGuid: readGuid(bytes, field.dataWrite),
    logGuid: readGuid(bytes, field.log),
    logVersion: view.getUint16(field.logVersion, true),
    logLength: view.getUint32(logField.length, true),
    logOffset: u64le(view, logField.offset),
  }
}

function checkLog(path: string, header: Header): void {
  if (header.logVersion !== 0) {
    throw vhdxFault(path, 'unsupported', 'log version', { value: header.logVersion, rule: '0' })
  }
  if (header.logLength === 0) return
  if (header.logOffset < mib || header.logOffset % mib !== 0 || header.logOffset === Number.POSITIVE_INFINITY) {
    throw vhdxFault(path, 'invalid', 'log offset', { value: header.logOffset, rule: 'a multiple of 1 MiB, not 0' })
  }
  if (header.logLength % mib !== 0) {
    throw vhdxFault(path, 'invalid', 'log length', { value: header.logLength, rule: 'a multiple of 1 MiB' })
  }
}

/** A header as it lies on disk, 4 KiB. What is reserved is taken from `over`. */
export function encodeHeader(header: Header, over?: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(lengths.header)
  if (over !== undefined) bytes.set(over)
  const view = viewOf(bytes)
  view.setUint32(0, signature, true)
  view.setBigUint64(field.sequence, header.sequence, true)
  writeGuid(bytes, field.fileWrite, header.fileWriteGuid)
  writeGuid(bytes, field.dataWrite, header.dataWriteGuid)
  writeGuid(bytes, field.log, header.logGuid)
  view.setUint16(field.logVersion, header.logVersion, true)
  view.setUint16(field.version, 1, true)
  view.setUint32(logField.length, header.logLength, true)
  view.setBigUint64(logField.offset, BigInt(header.logOffset), true)
  view.setUint32(field.checksum, crc32cWithout(bytes, field.checksum), true)
  return bytes
}
