/** QEMU as the oracle of a format of plain blocks, both ways: what the engine writes QEMU reads, and the other way round. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { planConversion } from '@moraine/engine'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { contentSteps } from '../qcow2/steps.ts'
import { expectSameAsQemu, type Subject } from './block-subject.ts'
import { createFile, formatOf, openWritable, optionsOf, withImage } from './disk.ts'
import { temporaryFolder } from './folder.ts'
import { DiskModel, type Step } from './model.ts'
import { describeWith } from './process.ts'
import { bytesSha, expectClean, guestSha, qemuImg, qemuIo } from './qemu.ts'
import { budget, Random, seed, timeFor } from './random.ts'

function settings<T>(runSeed: number, ms: number): fc.Parameters<T> {
  return { seed: runSeed, numRuns: 1_000_000, interruptAfterTimeLimit: budget(ms), markInterruptAsFailure: false }
}

/** `options` as arguments of qemu-img. */
function optionArgs(options: string): string[] {
  return options === '' ? [] : ['-o', options]
}

/** The tests against QEMU. `masked` makes what differs from image to image (identifiers, times, checksums over them) the same. */
export function testAgainstQemu(subject: Subject, masked: (image: Uint8Array) => Uint8Array): void {
  const { format, qemu, kinds } = subject
  const folder = temporaryFolder()

  async function play(kind: Subject['kinds'][number], maker: string, steps: readonly Step[], n: number): Promise<void> {
    const file = folder.fresh(`.${format}`)
    if (maker === 'engine') await createFile(file, format, kind.size, kind.options)
    else await qemuImg('create', '-q', '-f', qemu, ...optionArgs(kind.options), file, `${kind.size}`)
    const open = () => openWritable(file, format)
    const disk = await open()
    const model = new DiskModel(disk, new Uint8Array(disk.size), open)
    const random = new Random(n)
    try {
      for (const step of steps) {
        await model.step(step)
        if (random.bool(0.2)) await model.compare()
      }
      await model.compare()
    } finally {
      await model.disk.close()
    }
    if (subject.qemuChecks) await expectClean(file, qemu)
    expect(await guestSha(file, qemu), 'guest bytes for QEMU').toBe(bytesSha(model.bytes))
    await expectSameAsQemu(subject, file)
    rmSync(file)
  }

  describeWith(['qemu-img', 'qemu-io'], `${format} images and QEMU`, () => {
    it(
      'hold what the engine wrote',
      async () => {
        let runs = 0
        const which = fc.tuple(fc.constantFrom(...kinds), fc.constantFrom('engine', 'qemu'))
        const property = fc.asyncProperty(which, contentSteps, fc.nat(), async ([kind, maker], steps, n) => {
          runs++
          await play(kind, maker, steps, n)
        })
        await fc.assert(property, settings(seed(`${format} write-oracle`), 8000))
        console.info(`${format} write-oracle: ${runs} images`)
        expect(runs).toBeGreaterThan(3)
      },
      timeFor(8000),
    )

    it(
      'hold what QEMU and the engine wrote in turn',
      async () => {
        const random = new Random(seed(`${format} mixed`))
        const end = Date.now() + budget(4000)
        for (let round = 0; round < 2 || Date.now() < end; round++) {
          const kind = random.pick(kinds)
          const file = folder.fresh(`.${format}`)
          await qemuImg('create', '-q', '-f', qemu, ...optionArgs(kind.options), file, `${kind.size}`)
          let bytes = new Uint8Array(0)
          for (let turn = 0; turn < 4; turn++) {
            const size = await withImage(file, format, async (disk) => disk.size)
            if (turn === 0) bytes = new Uint8Array(size)
            const lines: string[] = []
            for (let i = 0; i < 3; i++) {
              const offset = random.int(0, size - 512)
              const length = Math.min(random.int(1, 600_000), size - offset)
              const value = random.int(1, 255)
              bytes.fill(value, offset, offset + length)
              if (turn % 2 === 0) lines.push(`write -P ${value} ${offset} ${length}`)
              else
                await withWritableFile(file, format, (disk) => disk.write(offset, bytes.slice(offset, offset + length)))
            }
            if (lines.length > 0) await qemuIo(file, qemu, ...lines)
            expect(await guestSha(file, qemu), `turn ${turn}`).toBe(bytesSha(bytes))
            await expectSameAsQemu(subject, file)
          }
          rmSync(file)
        }
      },
      timeFor(4000),
    )

    it('are converted to the bytes that qemu-img makes', async () => {
      const random = new Random(seed(`${format} convert`))
      const raw = folder.fresh('.raw')
      for (const kind of kinds) {
        const content = new Uint8Array(kind.size)
        for (let i = 0; i < 4; i++) {
          const part = random.bytes(Math.min(random.int(1, 900_000), kind.size))
          content.set(part, random.int(0, kind.size - part.length))
        }
        writeFileSync(raw, content)
        // An image may hold its own name.
        const theirs = folder.fresh(`.${format}`)
        const ours = folder.fresh(`.${format}`)
        await qemuImg('convert', '-f', 'raw', '-O', qemu, ...optionArgs(kind.options), raw, ours)
        renameSync(ours, theirs)
        await createFile(ours, format, kind.size, kind.options)
        await withImage(raw, 'raw', async (source) => {
          const plan = await planConversion(source, { format: formatOf(format) })
          await withWritableFile(ours, format, (disk) => plan.run(disk))
        })
        const same = kind.ownLayout ? 0 : Buffer.compare(masked(readFileSync(ours)), masked(readFileSync(theirs)))
        expect(same, `${kind.options} ${kind.size}: the file's bytes`).toBe(0)
        await expectSameAsQemu(subject, ours)
        // Streamed, the layout is another; the content is not.
        const piped = folder.fresh(`.${format}`)
        await withImage(theirs, format, async (source) => {
          const plan = await planConversion(source, {
            format: formatOf(format),
            options: optionsOf(format, kind.options),
          })
          const stream = await plan.stream()
          const chunks: Uint8Array[] = []
          for await (const chunk of stream.chunks()) chunks.push(chunk)
          const bytes = Buffer.concat(chunks)
          expect(bytes.length, 'the length that was promised').toBe(stream.length)
          writeFileSync(piped, bytes)
        })
        expect(await guestSha(piped, qemu), 'streamed content').toBe(await guestSha(theirs, qemu))
        await expectSameAsQemu(subject, piped)
        for (const path of [theirs, ours, piped]) rmSync(path)
      }
    })
  })
}

async function withWritableFile(
  file: string,
  format: string,
  work: (disk: Awaited<ReturnType<typeof openWritable>>) => Promise<void>,
): Promise<void> {
  const disk = await openWritable(file, format)
  try {
    await work(disk)
  } finally {
    await disk.close()
  }
}
