/** Runs `check` and its repairs on copies of one image, with the engine and with qemu-img, and sets what both say side by side. */

import { copyFileSync, readFileSync, rmSync } from 'node:fs'
import { type CheckResult, checkImage, isMoraineError, type MoraineError, openDisk } from '@moraine/engine'
import { fileGate, openFile } from '@moraine/engine/node'
import { expect } from 'vitest'
import { closing, formatOf } from '../support/disk.ts'
import { tryQemuImg } from '../support/qemu.ts'

export type Repair = 'none' | 'leaks' | 'all'

/** What one tool said of an image: the counters as `qemu-img check --output=json` prints them (zeros left out) and the lines. */
export interface Verdict {
  /** Undefined when the check could not be completed. */
  counters: Record<string, number> | undefined
  lines: string[]
  error?: MoraineError
}

/** Checks as `qemu-img check` does: a repair that mended something is followed by a second look. */
export async function ourCheck(file: string, repair: Repair, checkBytes?: number): Promise<Verdict> {
  const lines: string[] = []
  const mode = repair === 'none' ? 'read' : 'write'
  const round = async (kind: Repair): Promise<CheckResult> => {
    const disk = await openDisk(await openFile(file, { mode, sync: 'unsafe' }), {
      formats: [formatOf('qcow2')],
      format: 'qcow2',
      mode,
      purpose: 'check',
      gate: fileGate(),
      ...(checkBytes === undefined ? {} : { limits: { checkBytes } }),
    })
    const report = (line: string, level: string) => lines.push(level === 'failure' ? `qemu-img: ${line}` : line)
    return closing(disk, () => checkImage(formatOf('qcow2'), disk, { repair: kind, report }))
  }
  try {
    const found = await round(repair)
    const state = found.leaksFixed + found.corruptionsFixed > 0 ? await round('none') : found
    return { counters: countersOf(state, found), lines: lines.flatMap((line) => line.split('\n')) }
  } catch (error) {
    if (!isMoraineError(error)) throw error
    return { counters: undefined, lines: lines.flatMap((line) => line.split('\n')), error }
  }
}

function countersOf(state: CheckResult, found: CheckResult): Record<string, number> {
  const all: Record<string, number | undefined> = {
    'image-end-offset': state.imageEndOffset,
    corruptions: state.corruptions,
    leaks: state.leaks,
    'corruptions-fixed': found.corruptionsFixed,
    'leaks-fixed': found.leaksFixed,
    'total-clusters': state.totalClusters,
    'allocated-clusters': state.allocatedClusters,
    'fragmented-clusters': state.fragmentedClusters,
    'compressed-clusters': state.compressedClusters,
  }
  const some = Object.entries(all).filter(([, count]) => count !== undefined && count !== 0)
  return { 'check-errors': state.checkErrors, ...(Object.fromEntries(some) as Record<string, number>) }
}

/** The same by the real qemu-img. */
export async function theirCheck(file: string, repair: Repair): Promise<Verdict & { code: number }> {
  const result = await tryQemuImg([
    'check',
    '--output=json',
    '-f',
    'qcow2',
    ...(repair === 'none' ? ['-U'] : ['-r', repair]),
    file,
  ])
  const lines = result.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('qemu-img: Check failed'))
  if (result.stdout.trim() === '') return { counters: undefined, lines, code: result.code }
  const { filename: _name, format: _format, ...counters } = JSON.parse(result.stdout) as Record<string, number>
  return { counters, lines, code: result.code }
}

/** What is expected where the two part on purpose. */
export interface Parting {
  /** Our lines and counters are others; why. They are not compared then. */
  why?: string
  /** The image still has faults after `all` (a pointer that leads nowhere cannot be mended). */
  remains?: boolean
  /** The bytes of the repaired files are others; why. */
  bytes?: string
}

/** Checks copies of `file` with both tools: counters and lines agree, and after a repair so do the bytes; then qemu-img finds what ours says
 *  is left, which is nothing unless `parting` says so. */
export async function expectSameVerdict(
  file: string,
  repair: Repair,
  parting: Parting = {},
  checkBytes?: number,
): Promise<void> {
  const theirFile = `${file}.theirs`
  const ourFile = `${file}.ours`
  copyFileSync(file, theirFile)
  copyFileSync(file, ourFile)
  try {
    const theirs = await theirCheck(theirFile, repair)
    const ours = await ourCheck(ourFile, repair, checkBytes)
    if (parting.why === undefined) {
      expect(ours.lines, `lines of ${repair}`).toEqual(theirs.lines)
      expect(ours.counters, `counters of ${repair}: ${ours.error?.message ?? ours.lines[0]}`).toEqual(theirs.counters)
    }
    if (repair === 'none') {
      expect(readFileSync(ourFile).equals(readFileSync(file)), 'a look changes nothing').toBe(true)
      return
    }
    const left = await theirCheck(ourFile, 'none')
    if (ours.counters !== undefined) {
      const faults = ({ corruptions = 0, leaks = 0 }: Record<string, number>) => [corruptions, leaks]
      expect(faults(left.counters ?? {}), `qemu-img after our repair: ${left.lines[0]}`).toEqual(faults(ours.counters))
    }
    if (repair === 'all' && parting.remains !== true) {
      expect(left.code, `qemu-img after our repair: ${left.lines.slice(0, 3).join('; ')}`).toBe(0)
    }
    if (parting.why === undefined && parting.bytes === undefined && theirs.counters !== undefined) {
      expect(firstDifference(readFileSync(ourFile), readFileSync(theirFile)), 'the repaired files differ at').toBe(-1)
    }
  } finally {
    rmSync(theirFile, { force: true })
    rmSync(ourFile, { force: true })
  }
}

function firstDifference(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return -1
  const end = Math.min(a.length, b.length)
  let at = 0
  while (at < end && a[at] === b[at]) at++
  return at
}
