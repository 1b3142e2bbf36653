/** All generated command lines, by verb. The same every time. */
import { callerLines } from './callers.ts'
import {
  amendLines,
  bareLines,
  benchLines,
  bitmapLines,
  commitLines,
  rebaseLines,
  resizeLines,
  snapshotLines,
} from './changing.ts'
import { convertLines, createLines, ddLines } from './making.ts'
import { checkLines, compareLines, infoLines, mapLines, measureLines } from './reading.ts'

const makers: Readonly<Record<string, () => string[]>> = {
  'no verb': bareLines,
  amend: amendLines,
  bench: benchLines,
  bitmap: bitmapLines,
  check: checkLines,
  commit: commitLines,
  compare: compareLines,
  convert: convertLines,
  create: createLines,
  dd: ddLines,
  info: infoLines,
  map: mapLines,
  measure: measureLines,
  rebase: rebaseLines,
  resize: resizeLines,
  snapshot: snapshotLines,
  'as programs call it': callerLines,
}

/** Each line once, under the verb whose table it came from first. */
export function allLines(): Map<string, string[]> {
  const seen = new Set<string>()
  const lines = new Map<string, string[]>()
  for (const [verb, make] of Object.entries(makers)) {
    lines.set(
      verb,
      make().filter((line) => !seen.has(line) && seen.add(line)),
    )
  }
  return lines
}
