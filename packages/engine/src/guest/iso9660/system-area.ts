/** The first 32 KiB, which ISO 9660 leaves to others: a hybrid image has a partition table there and is a disk, too. Facts: UEFI 2.10, section 5; Apple's partition map. */
import { viewOf } from '../../bytes/integers.ts'
import { readPadded } from '../../core/index.ts'
import { latin1 } from './layout.ts'
import type { VolumeReader } from './volume-reader.ts'

/** What the system area says. */
export interface IsoSystemArea {
  /** The partitions of a master boot record, in sectors of 512 bytes; undefined where there is none. */
  mbr: { type: number; active: boolean; first: number; sectors: number }[] | undefined
  gpt: boolean
  apple: boolean
}

/** Reads it. What looks like a table whose entries make no sense is none.
 *  @throws MoraineError `io`. */
export async function readSystemArea(reader: VolumeReader): Promise<IsoSystemArea> {
  const bytes = new Uint8Array(4096)
  await readPadded(reader.source, 0, bytes, reader.signal)
  const signed = bytes[510] === 0x55 && bytes[511] === 0xaa
  return {
    mbr: signed ? readPartitions(bytes) : undefined,
    gpt: latin1(bytes.subarray(512, 520)) === 'EFI PART',
    apple: [512, 2048].some((at) => latin1(bytes.subarray(at, at + 4)) === 'PM\0\0'),
  }
}

function readPartitions(bytes: Uint8Array): IsoSystemArea['mbr'] {
  const view = viewOf(bytes)
  const entries = [446, 462, 478, 494].map((at) => ({
    status: view.getUint8(at),
    type: view.getUint8(at + 4),
    first: view.getUint32(at + 8, true),
    sectors: view.getUint32(at + 12, true),
  }))
  if (entries.some(({ status }) => (status & 0x7f) !== 0)) return undefined
  return entries
    .filter(({ type, sectors }) => type !== 0 && sectors !== 0)
    .map(({ status, ...entry }) => ({ ...entry, active: status === 0x80 }))
}
