/** Says at the end of a test run why tests were skipped: their titles carry the reason, but a run of thousands does not show titles. */

/** What is looked at of a test; Vitest's `TestCase` has it. */
interface Told {
  readonly fullName: string
  result(): { readonly state: string }
}

/** What is looked at of a test file; Vitest's `TestModule` has it. */
interface ToldFile {
  readonly children: { allTests(): Iterable<Told> }
}

/** One line for each reason, those of most tests first. Titles have it in brackets, as in `title [skipped: qemu-img not installed]`. */
export function skipReasons(files: Iterable<ToldFile>): string[] {
  const counts = new Map<string, number>()
  for (const file of files) {
    for (const test of file.children.allTests()) {
      const reason = /\[skipped: ([^\]]*)\]/.exec(test.fullName)?.[1]
      if (reason === undefined || test.result().state !== 'skipped') continue
      counts.set(reason, (counts.get(reason) ?? 0) + 1)
    }
  }
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => `${count} ${count === 1 ? 'test' : 'tests'} skipped: ${reason}`)
}

/** A reporter of Vitest. */
export const skipReporter = {
  onTestRunEnd(files: ReadonlyArray<ToldFile>): void {
    const lines = skipReasons(files)
    if (lines.length > 0) console.log(`${lines.join('\n')}\n`)
  },
}
