/** Results as a table for people. */
import type { Result, Score } from './result.ts'

/** Where and with what was measured. No host name, no path. */
export interface Machine {
  processor: string
  cores: number
  memoryGiB: number
  system: string
  filesystem: string
  node: string
  qemu: string
}

const seconds = (value: number) => (value < 10 ? value.toFixed(3) : value.toFixed(1))
const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
const find = ({ scores }: Result, name: string): Score | undefined => scores.find((score) => score.name === name)

/** A row's cells. */
function row(result: Result): string[] {
  const ours = find(result, 'moraine')
  const theirs = find(result, result.against)
  const standalone = find(result, 'standalone')
  const floor = result.scores.find(({ name }) => !['moraine', 'standalone', result.against].includes(name))
  const time = (score: Score | undefined) => (score === undefined ? '' : seconds(score.seconds))
  const ratio = (score: Score | undefined) =>
    score === undefined || theirs === undefined ? '' : (score.seconds / theirs.seconds).toFixed(2)
  const speed =
    ours?.readBytes !== undefined
      ? `${Math.round(ours.readBytes / 1024)} KiB read`
      : result.bytes === undefined || ours === undefined
        ? ''
        : `${Math.round(result.bytes / ours.seconds / 1e6)} MB/s`
  const size =
    ours?.outputBytes === undefined || theirs?.outputBytes === undefined || theirs.outputBytes === 0
      ? ''
      : (ours.outputBytes / theirs.outputBytes).toFixed(2)
  return [
    result.title,
    time(ours),
    time(standalone),
    `${time(theirs)} (${result.against})`,
    floor === undefined ? '' : `${time(floor)} (${floor.name})`,
    ratio(ours),
    ratio(standalone),
    result.atMost === undefined ? '' : String(result.atMost),
    result.aim === undefined ? '' : String(result.aim),
    ours?.peakBytes === undefined ? '' : mebibytes(ours.peakBytes),
    size,
    speed,
    verdict(result.misses),
    result.standaloneMisses === undefined ? '' : verdict(result.standaloneMisses),
  ]
}

const verdict = (misses: readonly string[]) => (misses.length === 0 ? 'yes' : `no: ${misses.join(', ')}`)

const head = [
  'job',
  'moraine, s',
  'standalone, s',
  'against, s',
  'floor, s',
  'ratio',
  'standalone',
  'at most',
  'aim',
  'peak',
  'size',
  'speed',
  'holds',
  'standalone',
]

/** The table as Markdown, its columns in line for a terminal too. */
export function table(results: readonly Result[]): string {
  const rows = [head, ...results.map(row)]
  const widths = head.map((_, at) => Math.max(...rows.map((cells) => (cells[at] ?? '').length)))
  const line = (cells: readonly string[]) => `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')} |`
  return [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rows.slice(1).map(line)].join(
    '\n',
  )
}

/** The page that is committed. */
export function page(results: readonly Result[], machine: Machine, rounds: number): string {
  const { processor, cores, memoryGiB, system, filesystem, node, qemu } = machine
  const commits = [...new Set(results.map(({ date, commit }) => `${commit ?? '?'} (${date ?? '?'})`))]
  return `# Benchmark

Written by \`npm run bench\`. Wall time of whole processes, from the built packages; medians of at least ${rounds} rounds in which the contenders take
turns, after one that does not count; inputs in the page cache, results removed before each run. The ratio is moraine's time under Node to that of
whom it is measured against, and beside it that of the standalone executable, by which the rows of starts are judged; whether a row's limits hold is said of both, of the standalone executable in the last column. Peak is the most memory the process held; size is that of the result to the other's.

- machine: ${processor}, ${cores} cores, ${memoryGiB} GiB, ${system}, ${filesystem}
- versions: Node ${node}, ${qemu}
- commit: ${commits.join(', ')}

${table(results)}
`
}
