/** The page that keeps the last soak run's result. */

/** One run of the whole suites. */
export interface SoakRound {
  seed: number
  native: boolean
  /** Only the command's tests, with the standalone executable in its place. */
  standalone?: boolean
  /** As in `12 passed, 0 failed, 0 skipped`. */
  line: string
  minutes: number
}

/** What a soak run tells. */
export interface Soak {
  date: string
  commit: string
  machine: string
  /** Factor on the time of every long loop, `MORAINE_BUDGET`. */
  budget: number
  rounds: readonly SoakRound[]
  failed: readonly string[]
  skipped: readonly string[]
}

/** The page as Markdown. */
export function soakPage({ date, commit, machine, budget, rounds, failed, skipped }: Soak): string {
  const list = (title: string, names: readonly string[]) =>
    names.length === 0 ? [] : ['', `## ${title}`, '', ...names.map((name) => `- ${name}`)]
  return `${[
    '# Soak run',
    '',
    'Written by `npm run soak`: every suite with long budgets. CI runs a rotating sample of the same loops.',
    '',
    `- date: ${date}`,
    `- commit: ${commit}`,
    `- machine: ${machine}`,
    `- budget: ${budget} (\`MORAINE_BUDGET\`; CI has 0.35)`,
    '',
    '| seed (`MORAINE_SEED`) | what | native calls | result | minutes |',
    '| --- | --- | --- | --- | --- |',
    ...rounds.map(
      ({ seed, standalone, native, line, minutes }) =>
        `| ${seed} | ${standalone === true ? 'the command, standalone' : 'all'} | ${native ? 'on' : 'off'} | ${line} | ${minutes.toFixed(1)} |`,
    ),
    ...list('Failed', failed),
    ...list('Skipped', skipped),
  ].join('\n')}\n`
}
