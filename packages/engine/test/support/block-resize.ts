/** Growing images of a format of plain blocks: the content stays and zeros are gained, for QEMU too; a power cut leaves the old image or the new one. */
import { rmSync } from 'node:fs'
import { faultySource, isMoraineError, JournalStore, type MemoryStore } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import {
  checkIn,
  createIn,
  expectSameAsQemu,
  openForWritingIn,
  openIn,
  type Subject,
  wholeOf,
} from './block-subject.ts'
import { closing, createFile, withImage, withWritable } from './disk.ts'
import { temporaryFolder } from './folder.ts'
import { type Moment, possible } from './moments.ts'
import { describeWith } from './process.ts'
import { bytesSha, expectClean, guestSha, qemuImg, qemuIo } from './qemu.ts'
import { budget, Random, seed, timeFor } from './random.ts'

/** An image in memory, and the sizes that it takes one after the other. */
export interface GrowingImage {
  name: string
  make(): Promise<MemoryStore>
  sizes: readonly number[]
  /** What a new size comes to, where it is not always what was asked for. */
  comesTo?(size: number): number
  /** More that a check may find when the power failed. */
  harmless?: RegExp
}

/** A file of the format, of a kind that QEMU knows. */
export interface GrowingFile {
  options: string
  size: number
  sizes: readonly number[]
}

/** New sizes for the kinds of a subject: within the last block, a block more, many. */
export function kindsOf(subject: Subject): GrowingImage[] {
  return subject.kinds.map((kind) => ({
    name: `${kind.options} ${kind.size}`,
    make: () => createIn(subject, kind),
    sizes: [kind.size + 1024, kind.size + (1 << 20), kind.size + (4 << 20)],
  }))
}

async function play(subject: Subject, image: GrowingImage, random: Random) {
  const journal = new JournalStore(await image.make())
  const moments: Moment[] = []
  let disk = await openForWritingIn(subject, journal)
  let bytes = await wholeOf(disk)
  const note = (durable: boolean) => moments.push({ from: journal.entries.length, bytes: bytes.slice(), durable })
  const write = async (at: number, length: number) => {
    const part = random.bytes(Math.min(length, bytes.length - at))
    await disk.write(at, part)
    bytes.set(part, at)
  }
  for (let at = 0; at < bytes.length; at += 500_000) await write(at, random.int(1000, 200_000))
  await write(bytes.length - 3000, 3000)
  await disk.flush()
  note(true)
  const first = journal.entries.length
  for (const asked of image.sizes) {
    await disk.resize(asked)
    const size = image.comesTo?.(asked) ?? asked
    expect(disk.size, 'the new size').toBe(size)
    const larger = new Uint8Array(size)
    larger.set(bytes)
    bytes = larger
    note(true)
    if (random.bool()) {
      await disk.close()
      disk = await openForWritingIn(subject, journal)
    }
    await write(size - random.int(1000, 5000), 1000)
    note(false)
    await disk.flush()
    note(true)
  }
  expect(Buffer.compare(await wholeOf(disk), bytes), 'the content in the end').toBe(0)
  await disk.close()
  note(true)
  return { journal, moments, first, bytes }
}

function graveOf(subject: Subject, image: GrowingImage, lines: readonly string[]): string[] {
  return lines.filter((line) => subject.harmless?.test(line) !== true && image.harmless?.test(line) !== true)
}

async function inspect(subject: Subject, growing: GrowingImage, image: MemoryStore, since: readonly Moment[]) {
  const bytes = await closing(await openIn(subject, image), wholeOf)
  const alike = since.filter((moment) => moment.bytes.length === bytes.length)
  if (alike.length === 0) {
    throw new Error(`the disk has ${bytes.length} bytes, not ${since.map((moment) => moment.bytes.length)}`)
  }
  const matches = ({ bytes: then }: Moment) => Buffer.compare(then, bytes) === 0
  if (!alike.some(matches)) {
    const at = bytes.findIndex((byte, i) => alike.every((moment) => moment.bytes[i] !== byte))
    if (at >= 0) throw new Error(`byte ${at} is ${bytes[at]}, which it never was`)
  }
  const { lines } = await checkIn(subject, image, 'none')
  expect(graveOf(subject, growing, lines), 'check').toEqual([])
  await checkIn(subject, image, 'all')
  const repaired = await closing(await openIn(subject, image), wholeOf)
  expect(Buffer.compare(bytes, repaired), 'the repair left the content alone').toBe(0)
  // It grows from there as any other.
  const disk = await openForWritingIn(subject, image)
  const size = (growing.sizes.at(-1) as number) + (1 << 20)
  await disk.resize(size)
  const last = new Uint8Array(600).fill(9)
  await disk.write(disk.size - 600, last)
  const all = await wholeOf(disk)
  await disk.close()
  expect(Buffer.compare(all.subarray(0, bytes.length), bytes)).toBe(0)
  expect(all.subarray(bytes.length, -600).every((byte) => byte === 0)).toBe(true)
  expect(Buffer.compare(all.subarray(-600), last)).toBe(0)
  const after = await checkIn(subject, image, 'none')
  const left = after.lines.filter((line) => subject.leaksStay !== true || subject.harmless?.test(line) !== true)
  expect(left, 'in the end').toEqual([])
}

/** Pulls the plug while images grow. */
export function testGrowing(subject: Subject, images: readonly GrowingImage[]): void {
  describe(`${subject.format} images that grow`, () => {
    const runSeed = seed(`${subject.format} growing`)

    it.each(images.map((image) => [image.name, image] as const))(
      'survive a power cut at any moment, %s',
      async (_name, image) => {
        const random = new Random(runSeed)
        const end = Date.now() + budget(500)
        let cuts = 0
        do {
          const { journal, moments, first } = await play(subject, image, random)
          for (let i = 0; i < 40 && (Date.now() < end || cuts < 5); i++) {
            const time = i === 0 ? journal.entries.length : random.int(first, journal.entries.length)
            const cut = await journal.cut(() => random.next(), time)
            try {
              await inspect(subject, image, cut, possible(moments, time))
            } catch (error) {
              const where = `cut ${cuts}, before entry ${time} of ${journal.entries.length}`
              throw new Error(`MORAINE_SEED=${runSeed}, ${where}: ${(error as Error).message}`, { cause: error })
            }
            cuts++
          }
        } while (Date.now() < end)
        console.info(`growing ${subject.format} ${image.name}: ${cuts} cuts`)
      },
      timeFor(500),
    )

    it.each(images.map((image) => [image.name, image] as const))(
      'survive a fault of the host, %s',
      async (_name, image) => {
        const random = new Random(seed(`${subject.format} growing faults`))
        const start = await image.make()
        const first = await closing(await openForWritingIn(subject, start), async (disk) => {
          for (let at = 0; at < disk.size; at += 300_000) {
            await disk.write(at, new Uint8Array(Math.min(2000, disk.size - at)).fill(5))
          }
          await disk.flush()
          return wholeOf(disk)
        })
        const asked = image.sizes.at(-1) as number
        const attempt = async (store: MemoryStore, plan: Parameters<typeof faultySource>[1]) => {
          const { source, report } = faultySource(store, plan)
          let error: unknown
          try {
            await closing(await openForWritingIn(subject, source), (disk) => disk.resize(asked))
          } catch (reason) {
            error = reason ?? 'undefined was thrown'
          }
          return { error, ...report }
        }
        for (const [fault, sticky] of [
          ['EIO', false],
          ['ENOSPC', true],
        ] as const) {
          const calls = ['write', 'zero', 'resize', 'flush'] as const
          const whole = await attempt(start.clone(), { fault, calls })
          if (whole.error !== undefined) throw whole.error
          const most = asked > 16 << 20 ? 10 : 20
          for (let at = random.int(0, 2); at < whole.calls; at += Math.ceil(whole.calls / most)) {
            const store = start.clone()
            const result = await attempt(store, { fault, calls, at, sticky })
            if (result.faults > 0 && !isMoraineError(result.error, 'io'))
              throw result.error ?? new Error('went unnoticed')
            const bytes = await closing(await openIn(subject, store), wholeOf)
            expect([first.length, image.comesTo?.(asked) ?? asked], `call ${at}`).toContain(bytes.length)
            expect(
              Buffer.compare(bytes.subarray(0, first.length), first),
              `content, call ${at} of ${whole.calls}`,
            ).toBe(0)
            expect(bytes.subarray(first.length).every((byte) => byte === 0)).toBe(true)
            const { lines } = await checkIn(subject, store, 'none')
            expect(graveOf(subject, image, lines), `check, call ${at} of ${whole.calls}`).toEqual([])
          }
        }
      },
    )

    it('do not show what stood behind their end', async () => {
      const [image] = images
      if (image === undefined) return
      const store = await image.make()
      await closing(await openForWritingIn(subject, store), (disk) =>
        disk.write(disk.size - 512, new Uint8Array(512).fill(5)),
      )
      const host = await closing(await openIn(subject, store), async (disk) => {
        for await (const batch of disk.extents(disk.size - 512, 512)) return batch[0]?.host?.offset
        return undefined
      })
      if (host === undefined) throw new Error('the last sector has no place')
      await store.write(host + 512, new Uint8Array(2048).fill(0xaa))
      const disk = await openForWritingIn(subject, store)
      const { size } = disk
      await disk.resize(size + 4096)
      const bytes = new Uint8Array(disk.size - size + 512)
      await disk.read(size - 512, bytes)
      await disk.close()
      expect(bytes.subarray(0, 512).every((byte) => byte === 5)).toBe(true)
      expect(bytes.subarray(512).every((byte) => byte === 0)).toBe(true)
    })

    it('refuse what they do not have', async () => {
      for (const image of images) {
        const disk = await openForWritingIn(subject, await image.make())
        const { size } = disk
        const kindOf = async (work: Promise<void>) => {
          try {
            await work
          } catch (error) {
            if (!isMoraineError(error)) throw error
            return error.kind
          }
          return 'none'
        }
        expect(await kindOf(disk.resize(size - 512))).toBe('denied')
        expect(await kindOf(disk.resize(size + 511))).toBe('invalid')
        expect(await kindOf(disk.resize(size + 512, 'full'))).toBe('unsupported')
        expect(await kindOf(disk.resize(2 ** 53 - 512))).not.toBe('none')
        expect(await kindOf(disk.resize(size))).toBe('none')
        expect(disk.size).toBe(size)
        await disk.close()
      }
    })
  })
}

/** QEMU reads what has grown, writes into it, and its writing is read. */
export function testGrownAgainstQemu(subject: Subject, files: readonly GrowingFile[]): void {
  const { format, qemu } = subject
  const folder = temporaryFolder()
  describeWith(['qemu-img', 'qemu-io'], `grown ${format} images and QEMU`, () => {
    it.each(files.map((file) => [`${file.options} ${file.size}`, file] as const))('%s', async (_name, growing) => {
      const { options, size, sizes } = growing
      const random = new Random(seed(`${format} grown`))
      const maker = random.pick(['engine', 'qemu-img'])
      const file = folder.fresh(`.${format}`)
      if (maker === 'engine') await createFile(file, format, size, options)
      else await qemuImg('create', '-q', '-f', qemu, ...(options === '' ? [] : ['-o', options]), file, `${size}`)
      let bytes = await withImage(file, format, async (disk) => new Uint8Array(disk.size))
      for (const next of [0, ...sizes]) {
        await withWritable(file, format, async (disk) => {
          if (next > 0) await disk.resize(next)
          const larger = new Uint8Array(disk.size)
          larger.set(bytes)
          bytes = larger
        })
        const isLarge = bytes.length > 64 << 20
        // Of a large one, what is written afterwards is looked at with the rest.
        if (!isLarge) await expectSameAsQemu(subject, file)
        for (const at of [0, bytes.length - 1024, random.int(0, bytes.length - 4096)]) {
          const value = random.int(1, 255)
          bytes.fill(value, at, at + 1024)
          if (random.bool()) await qemuIo(file, qemu, `write -P ${value} ${at} 1024`)
          else await withWritable(file, format, (disk) => disk.write(at, new Uint8Array(1024).fill(value)))
        }
        if (isLarge && next === 0) continue
        expect(await guestSha(file, qemu), `written at ${next}`).toBe(bytesSha(bytes))
        if (!isLarge) await expectSameAsQemu(subject, file)
        if (subject.qemuChecks) await expectClean(file, qemu)
      }
      rmSync(file)
    })
  })
}
