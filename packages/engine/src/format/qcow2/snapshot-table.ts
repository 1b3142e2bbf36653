/** The table of internal snapshots. Source: qcow2.txt, "Snapshots". */

import { roundUp, setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { decodeName, encodeName } from '../../bytes/name-text.ts'
import { MoraineError, readPadded } from '../../core/index.ts'
import type { Qcow2Image } from './image.ts'
import { bounds } from './layout.ts'

/** One snapshot, as stored. */
export interface Snapshot {
  l1Offset: number
  l1Size: number
  id: string
  name: string
  dateSeconds: number
  dateNanoseconds: number
  vmClockNanoseconds: bigint
  vmStateSize: number
  /** Bytes; the image's size where the entry does not say. */
  diskSize: number
  icount: bigint | undefined
  /** Bytes of the entry as it stands in the file. */
  storedBytes: number
  /** Extra data past what is known here, kept. */
  unknownExtra: Uint8Array
}

const fixedBytes = 40
const noIcount = 0xffff_ffff_ffff_ffffn

/** Reads the snapshot table of an image.
 *  @throws MoraineError `limit` or `invalid` when an entry breaks the format's bounds. */
export async function readSnapshotTable(image: Pick<Qcow2Image, 'file' | 'header' | 'size'>): Promise<Snapshot[]> {
  const { file, header } = image
  const list: Snapshot[] = []
  if (header.snapshotCount === 0) return list
  const broken = (
    reason: string,
    index: number,
    offset: number,
    field: string,
    kind: 'invalid' | 'limit' = 'invalid',
  ) =>
    new MoraineError(kind, `Could not read snapshots: ${reason}`, {
      path: file.name,
      format: 'qcow2',
      field: `snapshot ${index} ${field}`,
      offset,
    })
  let at = header.snapshotsOffset
  const fixed = new Uint8Array(fixedBytes)
  const view = viewOf(fixed)
  for (let index = 0; index < header.snapshotCount; index++) {
    at = roundUp(at, 8)
    if (at >= file.size) throw broken('the table is cut off', index, at, 'header')
    await readPadded(file, at, fixed)
    const idLength = view.getUint16(12)
    const nameLength = view.getUint16(14)
    const extraLength = view.getUint32(36)
    const l1Offset = u64be(view, 0)
    const l1Size = view.getUint32(8)
    if (extraLength > bounds.snapshotExtraBytes) {
      throw broken('too much extra metadata', index, at, 'extra_data_size', 'limit')
    }
    const rest = new Uint8Array(extraLength + idLength + nameLength)
    await readPadded(file, at + fixedBytes, rest)
    const extra = viewOf(rest.subarray(0, extraLength))
    const icount = extraLength >= 24 ? extra.getBigUint64(16) : noIcount
    const clock = view.getBigUint64(24)
    list.push({
      l1Offset,
      l1Size,
      id: decodeName(rest.subarray(extraLength, extraLength + idLength)),
      name: decodeName(rest.subarray(extraLength + idLength)),
      dateSeconds: view.getUint32(16),
      dateNanoseconds: view.getUint32(20),
      vmClockNanoseconds: clock,
      vmStateSize: extraLength >= 8 ? u64be(extra, 0) : view.getUint32(32),
      diskSize: extraLength >= 16 ? u64be(extra, 8) : image.size,
      icount: icount === noIcount ? undefined : icount,
      storedBytes: fixedBytes + rest.length,
      unknownExtra: rest.slice(Math.min(24, extraLength), extraLength),
    })
    at += fixedBytes + rest.length
    if (at - header.snapshotsOffset > bounds.snapshotTableBytes) {
      throw broken('the table is too large', index, at, 'size', 'limit')
    }
  }
  return list
}

/** Bytes of the table as it stands in the file. */
export function storedTableBytes(snapshots: readonly Pick<Snapshot, 'storedBytes'>[]): number {
  return snapshots.reduce((length, { storedBytes }) => roundUp(length, 8) + storedBytes, 0)
}

/** Encodes a snapshot table as QEMU writes it: 24 bytes of extra data, entries padded to 8 (the last one is not). */
export function encodeSnapshotTable(snapshots: readonly Snapshot[]): Uint8Array {
  const parts = snapshots.map((snapshot) => {
    const id = encodeName(snapshot.id)
    const name = encodeName(snapshot.name)
    const extraLength = 24 + snapshot.unknownExtra.length
    const bytes = new Uint8Array(fixedBytes + extraLength + id.length + name.length)
    const view = viewOf(bytes)
    setU64be(view, 0, snapshot.l1Offset)
    view.setUint32(8, snapshot.l1Size)
    view.setUint16(12, id.length)
    view.setUint16(14, name.length)
    view.setUint32(16, snapshot.dateSeconds)
    view.setUint32(20, snapshot.dateNanoseconds)
    view.setBigUint64(24, snapshot.vmClockNanoseconds)
    view.setUint32(32, snapshot.vmStateSize <= 0xffff_ffff ? snapshot.vmStateSize : 0)
    view.setUint32(36, extraLength)
    setU64be(view, 40, snapshot.vmStateSize)
    setU64be(view, 48, snapshot.diskSize)
    view.setBigUint64(56, snapshot.icount ?? noIcount)
    bytes.set(snapshot.unknownExtra, 64)
    bytes.set(id, fixedBytes + extraLength)
    bytes.set(name, fixedBytes + extraLength + id.length)
    return bytes
  })
  let length = 0
  for (const part of parts) length = roundUp(length, 8) + part.length
  const table = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    at = roundUp(at, 8)
    table.set(part, at)
    at += part.length
  }
  return table
}
