/** The system use of directory records: fields of two letters, continued in areas elsewhere. Facts: SUSP 1.12 (IEEE P1281), sections 4 and 5. */
import { viewOf } from '../../bytes/integers.ts'
import { both32, latin1 } from './layout.ts'
import type { VolumeReader } from './volume-reader.ts'

/** One field. */
export interface SystemUseField {
  signature: string
  /** What follows signature, length and version. */
  data: Uint8Array
}

/** Continuation areas of one record. Writers need one or two; a symbolic link of 4 KiB needs three. */
const mostAreas = 64
const mostAreaBytes = 64 * 1024
const mostFields = 1024
const mostAreaBytesInAll = 1024 ** 3

/** Continuation areas do not overlap, so together they are no longer than the image: that is what bounds a hostile one. */
export class AreaBudget {
  #left: number
  readonly #reader: VolumeReader

  constructor(reader: VolumeReader) {
    this.#reader = reader
    this.#left = Math.min(reader.source.size, mostAreaBytesInAll)
  }

  /** @throws MoraineError `corrupt`. */
  spend(bytes: number): void {
    this.#left -= bytes
    if (this.#left >= 0) return
    throw this.#reader.corrupt('the continuation areas of directory records share their bytes', {
      field: 'CE',
      rule: 'areas that do not overlap',
    })
  }
}

/** The fields of a record, those of its continuation areas with them. `skip`: bytes that each record has before them.
 *  @throws MoraineError `corrupt` where areas go in a circle or lie outside the image. */
export async function readSystemUse(
  reader: VolumeReader,
  record: { at: number; systemUse: Uint8Array },
  skip: number,
  budget: AreaBudget,
): Promise<SystemUseField[]> {
  const fields: SystemUseField[] = []
  const seen = new Set<number>()
  let area: Uint8Array = record.systemUse.subarray(skip)
  for (;;) {
    const next = readArea(reader, area, fields)
    if (next === undefined || fields.length > mostFields) return fields
    const from = next.block * reader.blockSize + next.offset
    if (seen.has(from) || seen.size === mostAreas) {
      throw reader.corrupt('the continuation areas of a directory record go in a circle or are too many', {
        field: 'CE',
        value: next.block,
        offset: record.at,
        rule: `at most ${mostAreas}, each once`,
      })
    }
    seen.add(from)
    budget.spend(next.length)
    if (next.length > mostAreaBytes || from + next.length > reader.source.size) {
      throw reader.corrupt('the continuation area of a directory record lies outside the image or is too long', {
        field: 'CE',
        value: next.block,
        offset: record.at,
        rule: `at most ${mostAreaBytes} bytes, before byte ${reader.source.size}`,
      })
    }
    area = await reader.readCached(from, next.length)
  }
}

/** Takes the fields of one area; where it goes on, if it does. */
function readArea(
  reader: VolumeReader,
  area: Uint8Array,
  fields: SystemUseField[],
): { block: number; offset: number; length: number } | undefined {
  let next: { block: number; offset: number; length: number } | undefined
  for (let at = 0; at + 4 <= area.length; ) {
    const length = area[at + 2] ?? 0
    // What is left is padding.
    if (length < 4 || at + length > area.length) break
    const signature = latin1(area.subarray(at, at + 2))
    const data = area.subarray(at + 4, at + length)
    at += length
    if (signature === 'ST') break
    if (signature === 'CE' && data.length >= 24) {
      const view = viewOf(data)
      next = {
        block: both32(view, 0, 'CE block', reader.doubt),
        offset: both32(view, 8, 'CE offset', reader.doubt),
        length: both32(view, 16, 'CE length', reader.doubt),
      }
    } else fields.push({ signature, data })
  }
  return next
}

/** Bytes that each record has before its fields, by what the first record of the root says; undefined where the system use holds no such fields. */
export function systemUseSkip(systemUse: Uint8Array): number | undefined {
  // CD-ROM XA has 14 bytes of its own before them.
  for (const at of [0, 14]) {
    const [s, p, length, version, be, ef, skip] = systemUse.subarray(at)
    if (s === 0x53 && p === 0x50 && (length ?? 0) >= 7 && version === 1 && be === 0xbe && ef === 0xef) {
      return at + (skip ?? 0)
    }
  }
  return undefined
}
