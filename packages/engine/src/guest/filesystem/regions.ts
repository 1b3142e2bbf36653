/** Where file systems and volumes have their signatures: four small regions show all that are known. */
import { type Reading, regionAt } from '../reading.ts'

/** Bytes, and where they begin. */
interface Part {
  offset: number
  bytes: Uint8Array
}

/** What the readers of file systems look at. */
export interface Regions {
  /** The first 8 KiB. */
  start: Uint8Array
  /** At 16 KiB. */
  at16: Part
  /** Around 32 KiB. */
  at32: Part
  /** Around 64 KiB, with the last sector before it. */
  at64: Part
}

const startBytes = 8192
const offset16 = 16 * 1024
const bytes16 = 4096
const offset32 = 32 * 1024
const bytes32 = 4 * 2048
const offset64 = 64 * 1024 - 512
const bytes64 = 512 + 4096

/** The beginning of an optical volume, as far as its descriptors go; nothing of what stands before them. */
export function opticalHead({ at32 }: Regions): Uint8Array {
  const head = new Uint8Array(at32.offset + at32.bytes.length)
  head.set(at32.bytes, at32.offset)
  return head
}

/** Reads them. */
export function* readRegions(): Reading<Regions> {
  return {
    start: yield* regionAt(0, startBytes),
    at16: { offset: offset16, bytes: yield* regionAt(offset16, bytes16) },
    at32: { offset: offset32, bytes: yield* regionAt(offset32, bytes32) },
    at64: { offset: offset64, bytes: yield* regionAt(offset64, bytes64) },
  }
}
