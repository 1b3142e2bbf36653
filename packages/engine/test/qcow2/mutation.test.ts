/** Random mutation of small sound images: whatever stands in an image, the engine neither hangs nor crashes, stays within its memory,
 *  and ends well or with a `MoraineError`. `MORAINE_BUDGET` makes it longer, `MORAINE_SEED` repeats a run. */
import { copyFileSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { EngineChild, type Job } from '../support/engine.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { fileSha, tryQemuImg } from '../support/qemu.ts'
import { budget, seed, timeFor } from '../support/random.ts'
import { corpus, type Mutation, mutated } from './corpus.ts'

const folder = temporaryFolder()
const engine = new EngineChild()
afterAll(() => engine.end())

/** Bytes over the idle process. */
const memory = 64 * 1024 * 1024
/** Milliseconds for one operation on an image of less than 1 MiB; a loaded machine is given time, a hang is not. */
const limit = 10_000

const mutation: fc.Arbitrary<Mutation> = fc.record({
  kind: fc.constantFrom('byte', 'bit', 'word', 'long', 'copy', 'cut', 'shuffle'),
  // Most changes hit a field; the rest hits anything.
  tender: fc.nat(9).map((n) => n < 8),
  where: fc.nat(),
  value: fc.nat(),
})
const image = fc.tuple(fc.constantFrom(...Object.keys(corpus)), fc.array(mutation, { minLength: 1, maxLength: 6 }))

/** One operation; what it did wrong is thrown. */
async function survives(job: Omit<Job, 'id'>): Promise<void> {
  let answer = await engine.run(job, limit)
  if (answer.over > memory) {
    // Memory that an earlier image left behind is not this one's.
    await engine.stop()
    answer = await engine.run(job, limit)
  }
  if (answer.error !== undefined && !answer.error.moraine) throw new Error(`${job.op}: ${answer.error.stack}`)
  if (answer.over > memory) throw new Error(`${job.op}: ${answer.over} bytes over the idle process`)
}

function settings(runSeed: number, ms: number): fc.Parameters<[[string, Mutation[]]]> {
  return { seed: runSeed, numRuns: 1_000_000, interruptAfterTimeLimit: budget(ms), markInterruptAsFailure: false }
}

describe('mutated qcow2 images', () => {
  it(
    'are read, listed, checked, repaired and written without harm',
    async () => {
      const file = folder.file('mutated.qcow2')
      const copy = folder.file('copy.qcow2')
      let runs = 0
      const property = fc.asyncProperty(image, async ([name, mutations]) => {
        runs++
        writeFileSync(file, mutated(name, mutations))
        for (const op of ['info', 'read', 'map', 'check', 'snapshots', 'convert'] as const) {
          await survives({ op, file, target: `${file}.raw` })
        }
        copyFileSync(file, copy)
        await survives({ op: 'write', file: copy, seed: runs })
        await survives({ op: 'read', file: copy })
        copyFileSync(file, copy)
        await survives({ op: 'repair', file: copy })
        await survives({ op: 'read', file: copy })
      })
      await fc.assert(property, settings(seed('mutation'), 20_000))
      console.info(`mutation: ${runs} images`)
      expect(runs).toBeGreaterThan(10)
    },
    timeFor(20_000),
  )
})

/** Where QEMU opens an image that the engine refuses, or the other way round, for a reason. Matched against the one message there is. */
const accepted = [
  /past 2\^53|past what a file|is Infinity|unaligned|bitmap_table_offset/, // offsets that a number does not hold
  /not in qcow2 format|header too short/, // a header cut short, which QEMU fills with zeros
  /Could not read snapshots/, // QEMU takes zeros past the end of the file for snapshots
  /bitmap_table table|Could not read bitmap .[ab]. from/, // QEMU loads every bitmap when it opens an image
  /compressed cluster/, // QEMU wants a zstd frame to end with its cluster
]

describeWith(['qemu-img'], 'mutated qcow2 images as QEMU sees them', () => {
  it(
    'read the same where both read them',
    async () => {
      const file = folder.file('compared.qcow2')
      let both = 0
      let runs = 0
      const property = fc.asyncProperty(image, async ([name, mutations]) => {
        runs++
        writeFileSync(file, mutated(name, mutations))
        const ours = await engine.run({ op: 'read', file }, limit)
        if (ours.error !== undefined && accepted.some((words) => words.test(ours.error?.message ?? ''))) return
        const raw = `${file}.raw`
        const theirs = await tryQemuImg(['convert', '-U', '-f', 'qcow2', '-O', 'raw', file, raw], { timeout: 5000 })
        if (theirs.timedOut || accepted.some((words) => words.test(theirs.stderr))) return
        if (theirs.code === 0 && ours.error !== undefined) throw new Error(`QEMU reads it: ${ours.error.message}`)
        if (theirs.code !== 0 && ours.error === undefined) throw new Error(`QEMU refuses it: ${theirs.stderr}`)
        if (theirs.code !== 0 || ours.error !== undefined) return
        both++
        if (!`${ours.result}`.startsWith('extents')) expect(ours.result).toBe(await fileSha(raw))
      })
      await fc.assert(property, settings(seed('mutation against QEMU'), 15_000))
      console.info(`mutation against QEMU: ${runs} images, ${both} read by both`)
      expect(both).toBeGreaterThan(5)
    },
    timeFor(15_000),
  )
})
