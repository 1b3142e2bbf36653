/** Command lines out of tables: of all combinations, a few in which every pair of values meets early. */

/** A table: of each row one value is chosen. An empty value says nothing. */
export type Table = readonly (readonly string[])[]

/** Chance that is the same every time (mulberry32). */
export function chance(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b_79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

/** At most `count` different lines. Each time that one of several drawn ones is taken that has most pairs which did not meet before. */
export function cover(count: number, table: Table): string[] {
  const draw = chance(count * 31 + table.length)
  const met = new Set<string>()
  const lines = new Set<string>()
  for (let turn = 0; turn < count * 3 && lines.size < count; turn++) {
    let best: { line: string; fresh: string[] } | undefined
    for (let candidate = 0; candidate < 12; candidate++) {
      const chosen = table.map((row) => draw(row.length))
      const line = table
        .map((row, at) => row[chosen[at] ?? 0] ?? '')
        .filter((word) => word !== '')
        .join(' ')
      if (lines.has(line)) continue
      const fresh = pairs(chosen).filter((pair) => !met.has(pair))
      if (best === undefined || fresh.length > best.fresh.length) best = { line, fresh }
    }
    if (best === undefined) continue
    lines.add(best.line)
    for (const pair of best.fresh) met.add(pair)
  }
  return [...lines]
}

/** Every combination. */
export function all(table: Table): string[] {
  return table.reduce<string[]>(
    (lines, row) => lines.flatMap((line) => row.map((word) => [line, word].filter((part) => part !== '').join(' '))),
    [''],
  )
}

function pairs(chosen: readonly number[]): string[] {
  return chosen.flatMap((value, at) => chosen.slice(0, at).map((other, before) => `${before}:${other} ${at}:${value}`))
}
