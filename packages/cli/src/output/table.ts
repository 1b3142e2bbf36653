/** Tables and lists as QEMU prints them for people. */
import { type DetailValue, encodeName, type SnapshotInfo } from '@moraine/engine'
import { type JsonValue, qemuOrder } from './json.ts'
import { sizeText } from './size.ts'

/** The head of the list of snapshots. */
export const snapshotHead = snapshotRow('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT')

/** One snapshot of the list; the date is local time. */
export function snapshotLine(snapshot: SnapshotInfo): string {
  return snapshotRow(
    snapshot.id,
    snapshot.name,
    sizeText(snapshot.vmStateSize),
    dateText(snapshot.dateSeconds),
    clockText(snapshot.vmClockNanoseconds),
    snapshot.icount === undefined ? '' : String(snapshot.icount),
  )
}

function snapshotRow(id: string, tag: string, size: string, date: string, clock: string, icount: string): string {
  const right = size.padStart(8) + date.padStart(20) + clock.padStart(13) + icount.padStart(11)
  return `${padded(id, 9)} ${padded(tag, 16)} ${right}`
}

/** Filled up with blanks, as printf does it: bytes count, not letters. */
function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - encodeName(text).length))
}

function dateText(seconds: number): string {
  const date = new Date(seconds * 1000)
  const two = (value: number): string => String(value).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

function clockText(nanoseconds: bigint): string {
  const milliseconds = nanoseconds / 1_000_000n
  const seconds = milliseconds / 1000n
  const two = (value: bigint): string => String(value).padStart(2, '0')
  const time = `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}`
  return `${time}.${String(milliseconds % 1000n).padStart(3, '0')}`
}

/** A format's own details, indented: names with blanks for dashes, lists counted from 0. */
export function detailLines(data: Record<string, DetailValue>, depth: number): string {
  return qemuOrder(Object.entries(data))
    .map(([key, value]) => detail(key.replaceAll('-', ' '), value, depth))
    .join('')
}

function detail(name: string, value: DetailValue, depth: number): string {
  const head = `${'    '.repeat(depth)}${name}:`
  if (Array.isArray(value)) {
    return `${head}\n${value.map((item, i) => detail(`[${i}]`, item, depth + 1)).join('')}`
  }
  if (typeof value === 'object') return `${head}\n${detailLines(value, depth + 1)}`
  return `${head} ${value}\n`
}

/** A snapshot as `info` tells it in JSON. */
export function snapshotJson(snapshot: SnapshotInfo): JsonValue {
  return {
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': snapshot.vmStateSize,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': snapshot.vmClockNanoseconds / 1_000_000_000n,
    'vm-clock-nsec': snapshot.vmClockNanoseconds % 1_000_000_000n,
    icount: snapshot.icount,
  }
}
