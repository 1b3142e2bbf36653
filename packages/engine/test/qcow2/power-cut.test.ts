/** Pulling the plug: whatever was written before the last flush is there, of the rest any sectors may be; then the image opens, check finds
 *  leaks at worst, and what was flushed is intact. Over writing, snapshots, changes of size, creation and repair. */
import { writeFileSync } from 'node:fs'
import { type CheckResult, type Disk, isMoraineError, JournalStore, MemoryStore } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { checkStore, createInMemory, openStore, openStoreForWriting } from '../support/memory-image.ts'
import { churn, DiskModel, type Step } from '../support/model.ts'
import { type Moment, possible } from '../support/moments.ts'
import { tool } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import { guestOf, type Qcow2Spec } from '../support/qcow2-spec.ts'
import { qemuCheck } from '../support/qemu.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'

const folder = temporaryFolder()
const hasQemu = tool('qemu-img').path !== undefined

/** One moment of an image with snapshots. */
interface ImageMoment extends Moment {
  snapshots: { id: string; bytes: Uint8Array }[]
}

interface Scenario {
  name: string
  size: number
  options: string
  steps(random: Random): Step[]
}

const write = (at: number, length: number, n: number): Step => ({ do: 'write', at, length: length - 1, seed: n })
const zero = (at: number, length: number, mode: 'unmap' | 'allocate' = 'unmap'): Step => ({
  do: 'zero',
  at,
  length: length - 1,
  mode,
})
const flush: Step = { do: 'flush' }

const changes = (random: Random, count: number, size: number) => churn(random, count, size, ['discard', 'pack'])

const scenarios: Scenario[] = [
  { name: 'writing', size: 400_384, options: 'cluster_size=4k', steps: (random) => changes(random, 14, 400_384) },
  {
    name: 'writing clusters of 512 bytes',
    size: 200_192,
    options: 'cluster_size=512',
    steps: (random) => changes(random, 12, 200_192),
  },
  {
    name: 'writing, 64-bit counts',
    size: 200_192,
    options: 'cluster_size=512,refcount_bits=64',
    steps: (random) => changes(random, 12, 200_192),
  },
  {
    name: 'writing, 1-bit counts',
    size: 400_384,
    options: 'cluster_size=4k,refcount_bits=1',
    steps: (random) => changes(random, 12, 400_384),
  },
  {
    name: 'writing, extended L2',
    size: 600_064,
    options: 'cluster_size=16k,extended_l2=on',
    steps: (random) => changes(random, 14, 600_064),
  },
  {
    name: 'writing, version 2',
    size: 400_384,
    options: 'cluster_size=4k,compat=0.10',
    steps: (random) => changes(random, 12, 400_384),
  },
  {
    name: 'writing, zstd',
    size: 400_384,
    options: 'cluster_size=4k,compression_type=zstd',
    steps: (random) => changes(random, 12, 400_384),
  },
  {
    name: 'writing, lazy refcounts',
    size: 400_384,
    options: 'cluster_size=4k,lazy_refcounts=on',
    steps: (random) => changes(random, 12, 400_384),
  },
  {
    name: 'writing, preallocated',
    size: 400_384,
    options: 'cluster_size=4k,preallocation=metadata',
    steps: (random) => changes(random, 10, 400_384),
  },
  {
    name: 'a refcount table that moves',
    size: 3 << 20,
    options: 'cluster_size=512,refcount_bits=64',
    steps: () => [
      write(0, 300_000, 1),
      flush,
      ...Array.from({ length: 9 }, (_, i) => write((i + 1) * 300_000, 300_000, i)),
      flush,
      zero(0, 200_000),
    ],
  },
  {
    name: 'snapshots',
    size: 200_192,
    options: 'cluster_size=4k',
    steps: (random) => [
      ...changes(random, 3, 200_192),
      flush,
      { do: 'snapshot' },
      ...changes(random, 4, 200_192),
      { do: 'snapshot' },
      ...changes(random, 2, 200_192),
      flush,
      { do: 'apply', which: 0 },
      ...changes(random, 3, 200_192),
      { do: 'delete', which: 0 },
      ...changes(random, 2, 200_192),
      { do: 'delete', which: 0 },
    ],
  },
  {
    name: 'changes of size',
    size: 200_192,
    options: 'cluster_size=512',
    steps: (random) => [
      ...changes(random, 3, 200_192),
      flush,
      { do: 'resize', clusters: 30, tail: 1 },
      ...changes(random, 3, 600_000),
      { do: 'resize', clusters: 3, tail: 3 },
      ...changes(random, 3, 60_000),
      flush,
      { do: 'resize', clusters: 39, tail: 0 },
      ...changes(random, 3, 700_000),
    ],
  },
]

/** Runs the steps on a journal, noting what the disk holds between them. */
async function record(scenario: Scenario, random: Random): Promise<{ journal: JournalStore; moments: ImageMoment[] }> {
  const journal = new JournalStore(await createInMemory(scenario.size, scenario.options))
  const open = () => openStoreForWriting(journal)
  const disk = await open()
  const model = new DiskModel(disk, new Uint8Array(scenario.size), open)
  const moments: ImageMoment[] = []
  const note = (durable: boolean): void => {
    const snapshots = model.snapshots.map(({ id, bytes }) => ({ id, bytes }))
    moments.push({ from: journal.entries.length, bytes: model.bytes.slice(), snapshots, durable })
  }
  note(true)
  for (const step of scenario.steps(random)) {
    await model.step(step)
    const reached = step.do === 'flush' || step.do === 'reopen'
    note(reached)
  }
  await model.disk.close()
  note(true)
  return { journal, moments }
}

async function wholeOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

/** Every byte is what it was when last flushed, or what a later step made of it. */
function expectOneOf(bytes: Uint8Array, versions: readonly Uint8Array[], what: string): void {
  const fits = versions.filter((version) => version.length === bytes.length)
  if (fits.length === 0) throw new Error(`${what} has a size that it never had: ${bytes.length}`)
  if (fits.some((version) => Buffer.compare(version, bytes) === 0)) return
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]
    // A disk that shrank and grew again has zeros there.
    if (versions.some((version) => (i < version.length ? version[i] === byte : byte === 0))) continue
    throw new Error(`${what}: byte ${i} is ${byte}, which it never was since the last flush`)
  }
}

const sound = (result: CheckResult): boolean => result.corruptions === 0 && result.checkErrors === 0

/** The image after a cut: opens, is sound, holds what it must. */
async function inspect(image: MemoryStore, since: readonly ImageMoment[], askQemu: boolean): Promise<void> {
  const dirty = await closing(await openStore(image), async (disk) => {
    expectOneOf(
      await wholeOf(disk),
      since.map(({ bytes }) => bytes),
      'the disk',
    )
    const first = since[0]
    for (const { id } of first?.snapshots ?? []) {
      if (!since.every(({ snapshots }) => snapshots.some((snapshot) => snapshot.id === id))) continue
      const snapshot = await disk.openSnapshot?.(id)
      if (snapshot === undefined) throw new Error('snapshots cannot be opened')
      const then = since.flatMap(({ snapshots }) => snapshots.filter((one) => one.id === id).map(({ bytes }) => bytes))
      expectOneOf(await wholeOf(snapshot), then, `snapshot ${id}`)
    }
    return disk.info().dirty === true
  })
  const { result, lines } = await checkStore(image, 'none')
  if (!dirty && !sound(result)) throw new Error(`check: ${lines.slice(0, 5).join('; ')}`)
  if (askQemu && !dirty) {
    const file = folder.file('cut.qcow2')
    writeFileSync(file, image.bytes())
    const theirs = await qemuCheck(file, 'qcow2')
    if (theirs?.code !== 0 && theirs?.code !== 3)
      throw new Error(`qemu-img check: ${theirs?.code} ${theirs?.stderr.slice(0, 500)}`)
  }
  // A repair gives the leaks back, and changes no content.
  const before = await closing(await openStore(image), wholeOf)
  await checkStore(image, 'all')
  const after = await checkStore(image, 'none')
  expect([after.result.corruptions, after.result.leaks, after.result.checkErrors], after.lines.join('; ')).toEqual([
    0, 0, 0,
  ])
  const repaired = await closing(await openStore(image), wholeOf)
  expect(Buffer.compare(before, repaired), 'the repair left the content alone').toBe(0)
}

describe('power cuts', () => {
  const runSeed = seed('power-cut')

  it.each(scenarios)(
    'while $name',
    async (scenario) => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(2500)
      let cuts = 0
      do {
        const { journal, moments } = await record(scenario, random)
        for (let i = 0; i < 40 && (Date.now() < end || cuts < 8); i++) {
          const time = i === 0 ? journal.entries.length : random.int(1, journal.entries.length)
          const image = await journal.cut(() => random.next(), time)
          try {
            await inspect(image, possible(moments, time), hasQemu && i % 8 === 0)
          } catch (error) {
            throw new Error(
              `MORAINE_SEED=${runSeed}, cut ${cuts}, before entry ${time} of ${journal.entries.length}: ${(error as Error).message}`,
              { cause: error },
            )
          }
          cuts++
        }
      } while (Date.now() < end)
      console.info(`power cut while ${scenario.name}: ${cuts} cuts`)
    },
    timeFor(2500),
  )

  it(
    'while creating: not an image yet, or a sound one',
    async () => {
      const random = new Random(runSeed)
      for (const options of [
        '',
        'preallocation=metadata',
        'preallocation=full,cluster_size=4k',
        'extended_l2=on',
        'cluster_size=512,refcount_bits=64',
      ]) {
        const journal = new JournalStore()
        await createInMemory(300_032, options, journal)
        let opened = 0
        for (let time = 0; time <= journal.entries.length; time++) {
          const image = await journal.cut(() => random.next(), time)
          try {
            await closing(await openStore(image), wholeOf)
          } catch (error) {
            if (!isMoraineError(error)) throw error
            continue
          }
          opened++
          const { result, lines } = await checkStore(image, 'none')
          if (!sound(result))
            throw new Error(
              `${options}, before entry ${time} of ${journal.entries.length}: ${lines.slice(0, 5).join('; ')}`,
            )
        }
        expect(opened, 'the whole of it opens').toBeGreaterThan(0)
        await closing(await openStore(await journal.cut(() => 0)), async (disk) => expect(disk.size).toBe(300_032))
      }
    },
    timeFor(1000),
  )

  it(
    'while repairing: what is left can be repaired, and no content is lost',
    async () => {
      const random = new Random(runSeed)
      const clusters: Qcow2Spec['clusters'] = {
        0: { kind: 'data', bytes: 0x11 },
        1: { kind: 'compressed', bytes: 0x22 },
        3: { kind: 'zero-allocated', bytes: 0x33 },
        5: { kind: 'data', bytes: 0x55 },
        9: { kind: 'data', bytes: 0x99 },
      }
      const spec: Qcow2Spec = {
        clusterBits: 12,
        size: 65536n,
        clusters,
        snapshots: [{ id: '1', name: 'one', clusters: 'share' }],
      }
      const end = Date.now() + budget(4000)
      let cuts = 0
      for (let round = 0; round < 3 || Date.now() < end; round++) {
        const image = buildQcow2(spec)
        // Wrong counts anywhere; every other time none of the block is left, so that it is built anew.
        if (round % 2 === 0)
          for (let i = 0; i < 4; i++)
            image.setCount(random.int(0, image.bytes.length / 4096 - 1), BigInt(random.int(0, 4)))
        else image.setU64(image.at.refcountTable, 0n)
        const journal = new JournalStore(MemoryStore.from(image.bytes))
        await checkStore(journal, 'all')
        const times = [...Array(6)].map(() => random.int(0, journal.entries.length))
        for (const time of times) {
          const left = await journal.cut(() => random.next(), time)
          const bytes = await closing(await openStore(left, 'use'), wholeOf)
          expect(Buffer.compare(bytes, guestOf(spec)), `content, before entry ${time}`).toBe(0)
          await checkStore(left, 'all')
          const { result, lines } = await checkStore(left, 'none')
          if (!sound(result) || result.leaks > 0)
            throw new Error(
              `MORAINE_SEED=${runSeed}, round ${round}, before entry ${time}: ${lines.slice(0, 5).join('; ')}`,
            )
          cuts++
        }
      }
      console.info(`power cut while repairing: ${cuts} cuts`)
    },
    timeFor(4000),
  )
})
