/** Malformed images of a format of plain blocks: each gives one clear error, or reads as it should, in bounded time and memory. */
import { writeFileSync } from 'node:fs'
import type { ErrorKind } from '@moraine/engine'
import { afterAll, describe, expect, it } from 'vitest'
import type { Subject } from './block-subject.ts'
import { type Answer, EngineChild, type Job } from './engine.ts'
import { temporaryFolder } from './folder.ts'
import { describeWith } from './process.ts'
import { fileSha, tryQemuImg } from './qemu.ts'

/** An error: its kind and its field. */
export type Refusal = readonly [kind: ErrorKind, field: string | undefined]

/** A row of the table. What is not said must work. */
export interface MalformedRow {
  name: string
  make(): Uint8Array
  /** Opening is refused, whatever for. */
  open?: Refusal
  /** Though opening for use is refused, it opens for a check. */
  checks?: true
  /** Reading guest bytes is refused. */
  read?: Refusal
  /** Though reading is refused, it can be mapped. */
  maps?: true
  /** How many corruptions a check finds; default none. */
  corruptions?: number
  /** How many leaks it finds; default none. */
  leaks?: number
  /** Why QEMU sees it in another way. */
  differs?: string
}

/** What one operation on one malformed image may cost. */
const most = { ms: 1000, bytes: 64 * 1024 * 1024 }

/** The tests of a table. */
export function testMalformed({ format, qemu }: Subject, rows: readonly MalformedRow[]): void {
  const folder = temporaryFolder()
  const engine = new EngineChild()
  afterAll(() => engine.end())

  async function bounded(op: Job['op'], file: string): Promise<Answer> {
    const job = { op, file, format, target: `${file}.raw` }
    let answer = await engine.run(job)
    if (answer.ms > most.ms || answer.over > most.bytes) {
      // A process that was warmed by other rows may hold more than its share.
      await engine.stop()
      answer = await engine.run(job)
    }
    expect.soft(answer.ms, `${op}: milliseconds`).toBeLessThan(most.ms)
    expect.soft(answer.over, `${op}: bytes over the idle process`).toBeLessThan(most.bytes)
    if (answer.error !== undefined) expect(answer.error.moraine, `${op}: ${answer.error.stack}`).toBe(true)
    return answer
  }

  function judge(op: string, answer: Answer, refusal: Refusal | undefined): void {
    const seen = answer.error === undefined ? 'works' : [answer.error.kind, answer.error.field]
    expect.soft(seen, `${op}: ${answer.error?.message ?? 'works'}`).toEqual(refusal ?? 'works')
    if (answer.error !== undefined) expect.soft(answer.error.path, `${op}: the error says which file`).toBeDefined()
  }

  describe(`malformed ${format} images`, () => {
    it.each(rows.map((row) => [row.name, row] as const))('%s', async (_name, row) => {
      const file = folder.file(`malformed.${format}`)
      writeFileSync(file, row.make())
      judge('open', await bounded('open', file), row.open)
      judge('read', await bounded('read', file), row.open ?? row.read)
      judge('map', await bounded('map', file), row.open ?? (row.maps === true ? undefined : row.read))
      const check = await bounded('check', file)
      judge('check', check, row.checks === true ? undefined : row.open)
      if (check.error === undefined) {
        const { corruptions, leaks } = check.result as { corruptions: number; leaks: number }
        expect.soft([corruptions, leaks], 'corruptions and leaks').toEqual([row.corruptions ?? 0, row.leaks ?? 0])
      }
      const copy = folder.file(`copy.${format}`)
      writeFileSync(copy, row.make())
      judgeWrite(row, await bounded('write', copy))
    })
  })

  /** Writing may find more than reading; it must end well or with an error of the engine. */
  function judgeWrite(row: MalformedRow, answer: Answer): void {
    if (row.open !== undefined) judge('write', answer, row.open)
  }

  describeWith(['qemu-img'], `malformed ${format} images as QEMU sees them`, () => {
    const comparable = rows.filter(({ differs }) => differs === undefined)
    it.each(comparable.map((row) => [row.name, row] as const))('%s', async (_name, row) => {
      const file = folder.file(`theirs.${format}`)
      writeFileSync(file, row.make())
      const raw = `${file}.raw`
      const theirs = await tryQemuImg(['convert', '-U', '-f', qemu, '-O', 'raw', file, raw], { timeout: 20_000 })
      const ours = await engine.run({ op: 'read', file, format })
      expect(ours.error === undefined, `ours: ${ours.error?.message}; QEMU: ${theirs.stderr}`).toBe(theirs.code === 0)
      if (ours.error === undefined) expect(ours.result).toBe(await fileSha(raw))
    })
  })
}
