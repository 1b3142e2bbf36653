/** Power cuts, faults of the host and mutation of a format of plain blocks. */
import { copyFileSync, writeFileSync } from 'node:fs'
import {
  type ByteStore,
  type Fault,
  faultySource,
  isMoraineError,
  JournalStore,
  type MemoryStore,
  MoraineError,
  type WritableDisk,
} from '@moraine/engine'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { checkIn, createIn, openForWritingIn, openIn, type Subject, wholeOf } from './block-subject.ts'
import { closing } from './disk.ts'
import { EngineChild, type Job } from './engine.ts'
import { temporaryFolder } from './folder.ts'
import { churn, DiskModel } from './model.ts'
import { expectOneOf, type Moment, possible } from './moments.ts'
import { budget, Random, seed, timeFor } from './random.ts'

/** Pulls the plug while images are written and made. */
export function testPowerCuts(subject: Subject): void {
  const { format, kinds } = subject

  async function record(kind: Subject['kinds'][number], random: Random) {
    const journal = new JournalStore(await createIn(subject, kind))
    const open = () => openForWritingIn(subject, journal)
    const disk = await open()
    const model = new DiskModel(disk, new Uint8Array(disk.size), open)
    const moments: Moment[] = []
    const note = (durable: boolean): void => {
      moments.push({ from: journal.entries.length, bytes: model.bytes.slice(), durable })
    }
    note(true)
    for (const step of churn(random, 12, disk.size, ['discard'])) {
      await model.step(step)
      note(step.do === 'flush')
    }
    await model.disk.close()
    note(true)
    return { journal, moments }
  }

  async function inspect(image: MemoryStore, since: readonly Moment[]): Promise<void> {
    const bytes = await closing(await openIn(subject, image), wholeOf)
    expectOneOf(
      bytes,
      since.map((moment) => moment.bytes),
    )
    const { lines } = await checkIn(subject, image, 'none')
    const grave = lines.filter((line) => subject.harmless?.test(line) !== true)
    expect(grave, 'check').toEqual([])
    await checkIn(subject, image, 'all')
    const after = await checkIn(subject, image, 'none')
    const leaks = subject.leaksStay === true ? 0 : after.result.leaks
    expect([after.result.corruptions, leaks, after.result.checkErrors], `${after.lines}`).toEqual([0, 0, 0])
    const repaired = await closing(await openIn(subject, image), wholeOf)
    expect(Buffer.compare(bytes, repaired), 'the repair left the content alone').toBe(0)
    // What is written next comes out as it was written.
    const disk = await openForWritingIn(subject, image)
    const model = new DiskModel(disk, bytes, () => openForWritingIn(subject, image))
    for (const step of churn(new Random(bytes.length), 4, disk.size, ['discard'])) await model.step(step)
    await model.compare()
    await model.disk.close()
  }

  describe(`power cuts of ${format} images`, () => {
    const runSeed = seed(`${format} power-cut`)

    it.each(kinds.map((kind) => [`${kind.options} ${kind.size}`, kind] as const))(
      'while writing, %s',
      async (_name, kind) => {
        const random = new Random(runSeed)
        const end = Date.now() + budget(1500)
        let cuts = 0
        do {
          const { journal, moments } = await record(kind, random)
          for (let i = 0; i < 12 && (Date.now() < end || cuts < 6); i++) {
            const time = i === 0 ? journal.entries.length : random.int(1, journal.entries.length)
            const image = await journal.cut(() => random.next(), time)
            try {
              await inspect(image, possible(moments, time))
            } catch (error) {
              const where = `cut ${cuts}, before entry ${time} of ${journal.entries.length}`
              throw new Error(`MORAINE_SEED=${runSeed}, ${where}: ${(error as Error).message}`, { cause: error })
            }
            cuts++
          }
        } while (Date.now() < end)
        console.info(`power cut of ${format} ${kind.options}: ${cuts} cuts`)
      },
      timeFor(1500),
    )

    it('while creating: not an image yet, or a sound and empty one', async () => {
      const random = new Random(runSeed)
      for (const kind of kinds) {
        const journal = new JournalStore()
        await createIn(subject, kind, journal)
        let opened = 0
        for (let time = 0; time <= journal.entries.length; time++) {
          const image = await journal.cut(() => random.next(), time)
          try {
            const bytes = await closing(await openIn(subject, image), wholeOf)
            opened++
            expect(bytes.every((byte) => byte === 0)).toBe(true)
            const { lines } = await checkIn(subject, image, 'none')
            expect(lines.filter((line) => subject.harmless?.test(line) !== true)).toEqual([])
          } catch (error) {
            if (!isMoraineError(error)) throw error
          }
        }
        expect(opened, 'whole in the end').toBeGreaterThan(0)
      }
    })
  })
}

/** Lets the host fail at every call of every job. */
export function testFaults(subject: Subject): void {
  const kept = new Random(1).bytes(40_000)
  const fresh = new Random(2).bytes(60_000)
  const jobs: { name: string; run(disk: WritableDisk): Promise<void> }[] = [
    { name: 'write into new blocks', run: (disk) => disk.write(2_090_000, fresh) },
    { name: 'write in place', run: (disk) => disk.write(50_001, fresh.subarray(0, 9000)) },
    { name: 'write and flush', run: (disk) => disk.write(3_120_500, fresh).then(() => disk.flush()) },
    { name: 'zero', run: (disk) => disk.zero(45_000, 2_300_000, 'unmap').then(() => disk.flush()) },
    { name: 'zero, taking space', run: (disk) => disk.zero(1_045_000, 30_000, 'allocate').then(() => disk.flush()) },
    { name: 'discard', run: (disk) => disk.discard(45_056, 40_960).then(() => disk.flush()) },
    {
      name: 'several writes at once',
      async run(disk) {
        const writes = [60_000, 1_130_000, 2_200_000].map((at) => disk.write(at, fresh.subarray(0, 30_000)))
        for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
      },
    },
  ]

  function expectIo(error: unknown, fault: Fault): void {
    if (!(error instanceof MoraineError)) throw error ?? new Error('the fault went unnoticed')
    expect(error.kind, error.stack).toBe('io')
    expect(error.path).toBe(`image.${subject.format}`)
    expect(error.code).toBe(fault === 'truncated' ? 'EIO' : fault)
  }

  async function attempt(store: ByteStore, plan: Parameters<typeof faultySource>[1], job: (typeof jobs)[number]) {
    const { source, report } = faultySource(store, plan)
    let error: unknown
    try {
      await closing(await openForWritingIn(subject, source), (disk) => job.run(disk))
    } catch (reason) {
      error = reason ?? 'undefined was thrown'
    }
    return { error, calls: report.calls, faults: report.faults }
  }

  describe(`faults under a ${subject.format} image`, () => {
    it.each(subject.kinds.map((kind) => [kind.options, kind] as const))('%s', async (_name, kind) => {
      const random = new Random(seed(`${subject.format} faults`))
      const start = await createIn(subject, kind)
      await closing(await openForWritingIn(subject, start), (disk) => disk.write(0, kept))
      let struck = 0
      for (const job of jobs) {
        for (const fault of ['EIO', 'ENOSPC'] as const) {
          const calls = fault === 'EIO' ? undefined : (['write', 'zero', 'resize'] as const)
          const whole = await attempt(start.clone(), { fault, calls }, job)
          if (whole.error !== undefined) throw whole.error
          for (let at = 0; at < whole.calls; at++) {
            const store = start.clone()
            const partial = random.bool() ? 512 * random.int(0, 8) : 0
            const result = await attempt(store, { fault, calls, at, sticky: random.bool(), partial }, job)
            if (result.faults > 0) expectIo(result.error, fault)
            else if (result.error !== undefined) throw result.error
            struck += result.faults
            await closing(await openIn(subject, store), async (disk) => {
              const bytes = new Uint8Array(kept.length)
              await disk.read(0, bytes)
              expect(Buffer.compare(bytes, kept), `flushed bytes, ${job.name}, call ${at}`).toBe(0)
            })
            const { lines } = await checkIn(subject, store, 'none')
            expect(lines.filter((line) => subject.harmless?.test(line) !== true)).toEqual([])
            await checkIn(subject, store, 'all')
            const after = await checkIn(subject, store, 'none')
            const left = after.lines.filter((line) => subject.leaksStay !== true || !subject.harmless?.test(line))
            expect(left).toEqual([])
          }
        }
      }
      expect(struck).toBeGreaterThan(10)
    })

    it('a file cut short under us: an io error or the content as it was', async () => {
      for (const kind of subject.kinds) {
        const start = await createIn(subject, kind)
        await closing(await openForWritingIn(subject, start), (disk) => disk.write(0, kept))
        for (let at = 0; at < 8; at++) {
          const { source, report } = faultySource(start.clone(), { fault: 'truncated', at, size: 700 })
          try {
            const bytes = new Uint8Array(kept.length)
            await closing(await openIn(subject, source), (disk) => disk.read(0, bytes))
            if (report.faults === 0) expect(Buffer.compare(bytes, kept)).toBe(0)
          } catch (error) {
            expectIo(error, 'truncated')
          }
        }
      }
    })
  })
}

/** Changes sound images at random; `tender` tells where their fields are. `extent`: what is changed is an extent of this name, and a descriptor that stays is opened.
 *  `ms`: how long it goes on. */
export function testMutation(
  subject: Pick<Subject, 'format'>,
  images: readonly Uint8Array[],
  tender: readonly [number, number][],
  { extent, ms = 6000 }: { extent?: { name: string; descriptor: string }; ms?: number } = {},
): void {
  const engine = new EngineChild()
  afterAll(() => engine.end())
  const memory = 64 * 1024 * 1024

  async function survives(job: Omit<Job, 'id' | 'format'>): Promise<void> {
    let answer = await engine.run({ ...job, format: subject.format })
    if (answer.over > memory) {
      await engine.stop()
      answer = await engine.run({ ...job, format: subject.format })
    }
    if (answer.error !== undefined && !answer.error.moraine) throw new Error(`${job.op}: ${answer.error.stack}`)
    if (answer.over > memory) throw new Error(`${job.op}: ${answer.over} bytes over the idle process`)
  }

  describe(`mutated ${extent?.name ?? subject.format} images`, () => {
    const folder = temporaryFolder()

    it(
      'are read, listed, checked, repaired and written without harm',
      async () => {
        const file = folder.file(`mutated.${subject.format}`)
        const copy = extent === undefined ? folder.file(`copy.${subject.format}`) : file
        const changed = extent === undefined ? file : folder.file(extent.name)
        if (extent !== undefined) writeFileSync(file, extent.descriptor)
        const restore = (): void => (extent === undefined ? copyFileSync(file, copy) : undefined)
        const change = fc.record({
          range: fc.constantFrom(...tender),
          where: fc.nat(),
          value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xfe, 0xff)),
          bytes: fc.constantFrom(1, 1, 2, 4, 8),
        })
        const property = fc.asyncProperty(
          fc.constantFrom(...images),
          fc.array(change, { minLength: 1, maxLength: 5 }),
          fc.option(fc.nat(), { freq: 8 }),
          async (image, changes, cut) => {
            runs++
            const bytes = image.slice(0, cut === null ? image.length : cut % image.length)
            for (const { range, where, value, bytes: count } of changes) {
              const at = range[0] < 0 ? bytes.length + range[0] : range[0]
              const start = at + (where % range[1])
              bytes.fill(value, Math.max(0, start), Math.min(bytes.length, start + count))
            }
            writeFileSync(changed, bytes)
            for (const op of ['info', 'read', 'map', 'check', 'convert'] as const) {
              await survives({ op, file, target: `${file}.raw` })
            }
            restore()
            await survives({ op: 'write', file: copy, seed: runs })
            await survives({ op: 'read', file: copy })
            restore()
            await survives({ op: 'repair', file: copy })
            await survives({ op: 'read', file: copy })
          },
        )
        let runs = 0
        // The time is for images, not for the start of the process that reads them.
        for (const image of images.slice(0, 1)) writeFileSync(changed, image)
        await survives({ op: 'info', file })
        await fc.assert(property, {
          seed: seed(`${extent?.name ?? subject.format} mutation`),
          numRuns: 1_000_000,
          interruptAfterTimeLimit: budget(ms),
          markInterruptAsFailure: false,
        })
        console.info(`${subject.format} mutation: ${runs} images`)
        expect(runs).toBeGreaterThan(0)
      },
      timeFor(ms),
    )
  })
}
