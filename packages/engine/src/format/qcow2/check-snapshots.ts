/** The snapshot table as `check` reads it: what breaks a rule is named, and cut or dropped where a repair may. Behaviour and words: QEMU 7.2's
 *  `qcow2_check_read_snapshot_table`. */

import { roundUp, setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { decodeName } from '../../bytes/name-text.ts'
import { MoraineError, readPadded } from '../../core/index.ts'
import { type Findings, hex64 } from './check-findings.ts'
import type { Qcow2Image } from './image.ts'
import { bounds } from './layout.ts'

/** A snapshot's entry, with its bytes as they stand: what this engine cannot express must survive a repair too. */
export interface CheckedSnapshot {
  id: string
  name: string
  l1Offset: number
  /** The same in hex: it may be too large for a number. */
  l1OffsetHex: string
  /** Entries. */
  l1Size: number
  fixed: Uint8Array
  /** At most as long as QEMU allows. */
  extra: Uint8Array
  /** Id and name. */
  names: Uint8Array
}

/** The snapshot table of an image under check. */
export interface CheckedSnapshots {
  list: CheckedSnapshot[]
  offset: number
  /** Bytes that the table takes in the file. */
  length: number
  /** Snapshots were dropped from the end: the count in the header is too high. */
  dropped: number
}

const fixedBytes = 40
const knownExtra = 24
const noIcount = 0xffff_ffff_ffff_ffffn

/** Reads the table. With `repair` extra data that is too long is cut, and snapshots past QEMU's bounds or past the end of the file are dropped.
 *  @throws MoraineError `limit` or `invalid` when it cannot be read. */
export async function readSnapshotsForCheck(
  image: Qcow2Image,
  findings: Findings,
  repair: boolean,
): Promise<CheckedSnapshots> {
  const { header } = image
  const table: CheckedSnapshots = { list: [], offset: header.snapshotsOffset, length: 0, dropped: 0 }
  let count = header.snapshotCount
  if (count > bounds.snapshots && repair) {
    table.dropped = count - bounds.snapshots
    findings.say(`Discarding ${table.dropped} overhanging snapshots`)
    count = bounds.snapshots
  }
  checkPlace(image, findings, count)
  const reader = new TableReader(image, findings, repair)
  for (let index = 0; index < count; index++) {
    const start = reader.at
    const snapshot = await reader.next(index, count)
    const tooLong = reader.kept > bounds.snapshotTableBytes || reader.at - table.offset > 0x7fff_ffff
    if (snapshot !== undefined && !tooLong) {
      table.list.push(snapshot)
      continue
    }
    const rest = count - index
    if (!repair) {
      throw reader.refuse(
        'limit',
        'Snapshot table is too big',
        `You can force-remove all ${rest} overhanging snapshots with qemu-img check -r all`,
        `snapshot ${index} size`,
      )
    }
    const why = tooLong ? 'snapshot table is too big' : 'snapshot table is cut off'
    findings.say(`Discarding ${rest} overhanging snapshots (${why})`)
    table.dropped += rest
    reader.at = start
    break
  }
  table.length = reader.at - table.offset
  findings.corruptions += table.dropped + reader.cut
  if (header.version >= 3) {
    for (const [index, { extraLength }] of reader.sizes.entries()) {
      if (index >= table.list.length || extraLength >= 16) continue
      findings.corruption(`${repair ? 'Repairing' : 'ERROR'} snapshot table entry ${index} is incomplete`)
    }
  }
  return table
}

function checkPlace(image: Qcow2Image, findings: Findings, count: number): void {
  const { header, file, geometry } = image
  const tooMany = count > bounds.snapshots
  if (!tooMany && Number.isFinite(header.snapshotsOffset) && header.snapshotsOffset % geometry.clusterSize === 0) return
  const words = tooMany ? 'snapshot table too large' : 'snapshot table offset invalid'
  findings.failure(
    tooMany
      ? `ERROR ${words}\nYou can force-remove all ${count - bounds.snapshots} overhanging snapshots with qemu-img check -r all`
      : `ERROR ${words}`,
  )
  throw new MoraineError(tooMany ? 'limit' : 'invalid', tooMany ? 'File too large' : 'Invalid argument', {
    path: file.name,
    format: 'qcow2',
    field: tooMany ? 'nb_snapshots' : 'snapshots_offset',
    value: tooMany ? count : header.snapshotsOffset,
    rule: tooMany ? `at most ${bounds.snapshots}` : 'a multiple of the cluster size',
  })
}

/** Reads one entry after the other. */
class TableReader {
  readonly #image: Qcow2Image
  readonly #findings: Findings
  readonly #repair: boolean
  readonly sizes: { extraLength: number }[] = []
  at: number
  /** Bytes that the table would take once cut. */
  kept = 0
  /** Entries whose extra data was cut. */
  cut = 0

  constructor(image: Qcow2Image, findings: Findings, repair: boolean) {
    this.#image = image
    this.#findings = findings
    this.#repair = repair
    this.at = image.header.snapshotsOffset
  }

  refuse(kind: 'limit' | 'invalid', words: string, hint: string, field: string): MoraineError {
    this.#findings.failure(`ERROR failed to read the snapshot table: ${words}${hint === '' ? '' : `\n${hint}`}`)
    return new MoraineError(kind, kind === 'limit' ? 'File too large' : 'Invalid argument', {
      path: this.#image.file.name,
      format: 'qcow2',
      field,
      offset: this.at,
      rule: words,
    })
  }

  /** The next entry; undefined, in a repair, when the file ends before it. */
  async next(index: number, count: number): Promise<CheckedSnapshot | undefined> {
    const { file } = this.#image
    this.at = roundUp(this.at, 8)
    if (this.at >= file.size) {
      if (this.#repair) return undefined
      throw this.refuse(
        'invalid',
        `the table is cut off, ${count - index} entries are missing`,
        '',
        `snapshot ${index} header`,
      )
    }
    const fixed = new Uint8Array(fixedBytes)
    await readPadded(file, this.at, fixed)
    const view = viewOf(fixed)
    const stored = view.getUint32(36)
    if (stored > bounds.snapshotExtraBytes) this.#tooMuchExtra(index, stored)
    const extraLength = Math.min(stored, bounds.snapshotExtraBytes)
    this.sizes.push({ extraLength })
    const idLength = view.getUint16(12)
    const nameLength = view.getUint16(14)
    const extra = new Uint8Array(extraLength)
    await readPadded(file, this.at + fixedBytes, extra)
    const names = new Uint8Array(idLength + nameLength)
    await readPadded(file, this.at + fixedBytes + stored, names)
    this.at += fixedBytes + stored + names.length
    this.kept = roundUp(this.kept, 8) + fixedBytes + extraLength + names.length
    return decode(fixed, extra, names)
  }

  #tooMuchExtra(index: number, stored: number): void {
    if (!this.#repair) {
      throw this.refuse(
        'limit',
        `Too much extra metadata in snapshot table entry ${index}`,
        'You can force-remove this extra metadata with qemu-img check -r all',
        `snapshot ${index} extra_data_size`,
      )
    }
    this.#findings.say(
      `Discarding too much extra metadata in snapshot table entry ${index} (${stored} > ${bounds.snapshotExtraBytes})`,
    )
    this.cut++
  }
}

function decode(fixed: Uint8Array, extra: Uint8Array, names: Uint8Array): CheckedSnapshot {
  const view = viewOf(fixed)
  const idLength = view.getUint16(12)
  return {
    id: decodeName(names.subarray(0, idLength)),
    name: decodeName(names.subarray(idLength)),
    l1Offset: u64be(view, 0),
    l1OffsetHex: hex64(view.getUint32(0), view.getUint32(4)),
    l1Size: view.getUint32(8),
    fixed,
    extra,
    names,
  }
}

/** Encodes a table in which every entry has the extra data that QEMU writes; `diskSize` (bytes) is for entries that do not tell. */
export function encodeCheckedSnapshots(list: readonly CheckedSnapshot[], diskSize: number): Uint8Array {
  const lengths = list.map(({ extra, names }) => fixedBytes + Math.max(knownExtra, extra.length) + names.length)
  const table = new Uint8Array(lengths.reduce((sum, length) => roundUp(sum, 8) + length, 0))
  const view = viewOf(table)
  let at = 0
  for (const { fixed, extra, names } of list) {
    at = roundUp(at, 8)
    table.set(fixed, at)
    const extraLength = Math.max(knownExtra, extra.length)
    view.setUint32(at + 36, extraLength)
    const start = at + fixedBytes
    setU64be(view, start, view.getUint32(at + 32))
    setU64be(view, start + 8, diskSize)
    view.setBigUint64(start + 16, noIcount)
    // A field that is cut short is as good as absent.
    table.set(extra.length < knownExtra ? extra.subarray(0, extra.length - (extra.length % 8)) : extra, start)
    table.set(names, start + extraLength)
    at = start + extraLength + names.length
  }
  return table
}
