/** The list of known differences as `docs/qemu-img.md` shows it. */
import { knownDifferences } from './known.ts'

/** Where the list begins and ends in the page. */
const start = '<!-- known differences: written from packages/cli/test/differential/known.ts -->'
const end = '<!-- end of known differences -->'

/** The page with the list as it is now. */
export function withDifferences(page: string): string {
  const [before, rest = ''] = page.split(start)
  const after = rest.split(end)[1] ?? ''
  const rows = knownDifferences.map(
    ({ what, reason, aspects }) => `| ${what} | ${aspects.map((aspect) => shown[aspect]).join(', ')} | ${reason} |`,
  )
  const table = ['| what | where it shows | why it stays |', '| --- | --- | --- |', ...rows].join('\n')
  return `${before}${start}\n\n${table}\n\n${end}${after}`
}

const shown = {
  'exit code': 'exit code',
  stdout: 'standard output',
  stderr: 'standard error',
  files: 'files left',
  layout: 'where things lie in a file',
}
