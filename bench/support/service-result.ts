/** How two services did at the same rows, as a table for people. */

import type { Rate } from './load.ts'
import { median } from './result.ts'

/** One line of the comparison. */
export interface ServiceRow {
  name: string
  title: string
  /** What is compared: more is better for rates, less for the others. */
  unit: 'requests/s' | 'MB/s' | 's' | 'MiB' | 'ms'
  ours: number
  /** Absent where there is nothing to compare with. */
  theirs?: number | undefined
  /** Ours to theirs, so that more is better. */
  ratio?: number | undefined
  /** Ratio at least. */
  atLeast?: number | undefined
  aim?: number | undefined
  /** Ours at most, in the unit. */
  atMost?: number | undefined
  oursDetail?: Detail | undefined
  theirsDetail?: Detail | undefined
  date?: string
  commit?: string
}

/** What stands beside a rate. */
export interface Detail {
  p50?: number | undefined
  p99?: number | undefined
  /** Milliseconds of processor time for each request or, of transfers, seconds for each. */
  processor?: number | undefined
  heldBytes?: number | undefined
}

/** Medians over rounds. */
export function detailOf(rates: readonly Rate[]): Detail {
  return {
    p50: median(rates.map(({ p50 }) => p50)),
    p99: median(rates.map(({ p99 }) => p99)),
    processor: median(rates.map(({ processorMs }) => processorMs)),
    heldBytes: Math.max(...rates.map(({ heldBytes }) => heldBytes)),
  }
}

/** Whether a row is what it must be. */
export function holds({ ratio, atLeast, ours, atMost }: ServiceRow): boolean {
  if (atLeast !== undefined && !((ratio ?? 0) >= atLeast)) return false
  return atMost === undefined || ours <= atMost
}

const figure = (value: number | undefined) =>
  value === undefined ? '' : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
const pair = (one: number | undefined, other: number | undefined) =>
  one === undefined && other === undefined ? '' : `${figure(one)} / ${figure(other)}`
const mebibytes = (bytes: number | undefined) => (bytes === undefined ? undefined : bytes / 2 ** 20)

const head = [
  ...['row', 'unit', 'moraine', 'Glance', 'ratio', 'at least', 'aim', 'at most'],
  ...['p50, p99 moraine, ms', 'p50, p99 Glance, ms', 'CPU each, ms', 'memory, MiB', 'holds'],
]

function cells(row: ServiceRow): string[] {
  const { oursDetail: ours, theirsDetail: theirs } = row
  return [
    ...[row.title, row.unit, figure(row.ours), figure(row.theirs), figure(row.ratio)],
    ...[figure(row.atLeast), figure(row.aim), figure(row.atMost)],
    ...[pair(ours?.p50, ours?.p99), pair(theirs?.p50, theirs?.p99), pair(ours?.processor, theirs?.processor)],
    pair(mebibytes(ours?.heldBytes), mebibytes(theirs?.heldBytes)),
    row.atLeast === undefined && row.atMost === undefined ? '' : holds(row) ? 'yes' : 'no',
  ]
}

/** The table as Markdown, its columns in line for a terminal too. */
export function serviceTable(rows: readonly ServiceRow[]): string {
  const lines = [head, ...rows.map(cells)]
  const widths = head.map((_, at) => Math.max(...lines.map((line) => (line[at] ?? '').length)))
  const text = (line: readonly string[]) => `| ${line.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')} |`
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`
  return [text(head), rule, ...lines.slice(1).map(text)].join('\n')
}

/** The section of the page that is committed. */
export function serviceSection(rows: readonly ServiceRow[], versions: string): string {
  const commits = [...new Set(rows.map(({ date, commit }) => `${commit ?? '?'} (${date ?? '?'})`))]
  return `
## The image service beside Glance

Both behind the same Keystone, asked by one client over connections that stay open where the service lets them; they take turns. Glance is deployed as Debian does it: uwsgi
with a process for each core, MariaDB, image data in files, tokens kept. moraine is \`serve\` as it comes, with its catalog in SQLite; both write a line of log for each
request, and a commit is on the disk before it is answered. CPU is processor time of all processes of the service, its database too; where two figures stand, the first is
moraine's. Memory is what these processes hold, shared pages counted once, and the most that was held for transfers.

- versions: ${versions}
- commit: ${commits.join(', ')}

${serviceTable(rows)}
`
}
