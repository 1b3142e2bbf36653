/** Faults of the host under a qcow2 image, at every call in turn: one `io` error that says which file and where; then the image is still
 *  sound, or leaks, and what was flushed before is intact. */

import {
  type ByteStore,
  createImage,
  type Fault,
  type FaultPlan,
  faultySource,
  MemoryStore,
  MoraineError,
  qcow2,
  type WritableDisk,
} from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing, optionsOf } from '../support/disk.ts'
import { checkStore, createInMemory, openStore, openStoreForWriting } from '../support/memory-image.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import { guestOf, type Qcow2Spec } from '../support/qcow2-spec.ts'
import { budget, Random, sample, seed, timeFor } from '../support/random.ts'

const runSeed = seed('faults')
const size = 300_032

/** Something done to an open disk. Before it, the first 40,000 bytes hold `kept`, flushed, and stay as they are. */
interface Job {
  name: string
  run(disk: WritableDisk): Promise<void>
}

/** Calls for which a full disk fails. */
const writing = ['write', 'zero', 'resize'] as const

const kept = new Random(1).bytes(40_000)
const fresh = new Random(2).bytes(60_000)

const jobs: Job[] = [
  { name: 'write into new clusters', run: (disk) => disk.write(90_000, fresh) },
  { name: 'write in place', run: (disk) => disk.write(50_001, fresh.subarray(0, 9000)) },
  { name: 'write and flush', run: (disk) => disk.write(120_500, fresh).then(() => disk.flush()) },
  { name: 'zero', run: (disk) => disk.zero(45_000, 30_000, 'unmap').then(() => disk.flush()) },
  {
    name: 'zero, keeping the space',
    run: (disk) => disk.zero(45_000, 30_000, 'allocate').then(() => disk.flush()),
  },
  { name: 'discard', run: (disk) => disk.discard(45_056, 40_960).then(() => disk.flush()) },
  { name: 'take a snapshot', run: async (disk) => disk.snapshots?.create('new') },
  { name: 'apply a snapshot', run: async (disk) => disk.snapshots?.apply('1') },
  { name: 'delete a snapshot', run: async (disk) => disk.snapshots?.delete('1') },
  { name: 'grow', run: (disk) => disk.resize(900_096) },
  { name: 'grow with metadata', run: (disk) => disk.resize(900_096, 'metadata') },
  { name: 'shrink', run: (disk) => disk.resize(81_920, 'off', true) },
  {
    name: 'several writes at once',
    run: async (disk) => {
      const writes = [60_000, 130_000, 200_000].map((at) => disk.write(at, fresh.subarray(0, 30_000)))
      for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
    },
  },
]

const variants = [
  'cluster_size=4k',
  'cluster_size=512,refcount_bits=64',
  'cluster_size=4k,lazy_refcounts=on',
  'cluster_size=16k,extended_l2=on',
]

/** An image with content, a snapshot and the bytes that must stay. */
async function prepared(options: string): Promise<MemoryStore> {
  const store = await createInMemory(size, options)
  await closing(await openStoreForWriting(store), async (disk) => {
    await disk.write(0, kept)
    await disk.write(45_000, fresh.subarray(0, 20_000))
    await disk.snapshots?.create('1')
    await disk.write(70_000, fresh.subarray(0, 20_000))
  })
  return store
}

/** Runs a job on a disk whose store fails by plan; the error it ends with, and how many calls there were. */
async function attempt(
  store: ByteStore,
  plan: FaultPlan,
  work: (store: ByteStore) => Promise<void>,
): Promise<{ error: unknown; calls: number; faults: number }> {
  const { source, report } = faultySource(store, plan)
  let error: unknown
  try {
    await work(source)
  } catch (reason) {
    error = reason ?? 'undefined was thrown'
  }
  return { error, calls: report.calls, faults: report.faults }
}

const onDisk =
  (job: Job) =>
  async (store: ByteStore): Promise<void> => {
    await closing(await openStoreForWriting(store), (disk) => job.run(disk))
  }

function expectIo(error: unknown, fault: Fault): void {
  if (!(error instanceof MoraineError)) throw error ?? new Error('the fault went unnoticed')
  expect(error.kind, error.stack).toBe('io')
  expect(error.path, 'the error says which file').toBe('image.qcow2')
  expect(error.code).toBe(fault === 'truncated' ? 'EIO' : fault)
  // Only a flush and a close have no place.
  if (fault !== 'EIO') expect(error.offset, 'the error says where').toBeDefined()
}

/** After a fault the image opens, has leaks at worst, and keeps what was flushed. */
async function expectSurvives(store: MemoryStore): Promise<void> {
  await closing(await openStore(store), async (disk) => {
    const bytes = new Uint8Array(kept.length)
    await disk.read(0, bytes)
    expect(Buffer.compare(bytes, kept), 'flushed bytes').toBe(0)
    if (disk.info().snapshots.some(({ id }) => id === '1')) {
      const snapshot = await disk.openSnapshot?.('1')
      await snapshot?.read(0, bytes)
      expect(Buffer.compare(bytes, kept), 'flushed bytes of the snapshot').toBe(0)
    }
    // An image with lazy counts is dirty then, and is repaired by the next writer.
    if (disk.info().dirty === true) return
    const { result, lines } = await checkStore(store, 'none')
    expect([result.corruptions, result.checkErrors], lines.slice(0, 5).join('; ')).toEqual([0, 0])
  })
  await checkStore(store, 'all')
  const { result, lines } = await checkStore(store, 'none')
  expect([result.corruptions, result.leaks, result.checkErrors], lines.slice(0, 5).join('; ')).toEqual([0, 0, 0])
}

interface Case {
  job: string
  options: string
  fault: Fault
  sticky: boolean
}

const cases: Case[] = jobs.flatMap(({ name }) =>
  variants.flatMap((options) =>
    (['EIO', 'ENOSPC', 'EFBIG'] as const).flatMap((fault) =>
      [false, true].map((sticky) => ({ job: name, options, fault, sticky })),
    ),
  ),
)

describe('faults under a qcow2 image', () => {
  it(
    'at every call of every job',
    async () => {
      const prepare = new Map<string, MemoryStore>()
      for (const options of variants) prepare.set(options, await prepared(options))
      let faults = 0
      await sample('faults', cases, { seed: runSeed, ms: 12_000, atLeast: 30 }, async (one, random) => {
        const start = prepare.get(one.options) as MemoryStore
        const job = jobs.find(({ name }) => name === one.job) as Job
        const calls = one.fault === 'EIO' ? undefined : writing
        const whole = await attempt(start.clone(), { fault: one.fault, calls }, onDisk(job))
        if (whole.error !== undefined) throw whole.error
        const all = Array.from({ length: whole.calls }, (_, at) => at)
        for (const at of random.shuffle(all).slice(0, 25)) {
          const store = start.clone()
          const partial = random.bool() ? 512 * random.int(0, 8) : 0
          const result = await attempt(store, { fault: one.fault, calls, at, sticky: one.sticky, partial }, onDisk(job))
          try {
            if (result.faults > 0) expectIo(result.error, one.fault)
            else if (result.error !== undefined) throw result.error
            await expectSurvives(store)
          } catch (error) {
            throw new Error(`call ${at} of ${whole.calls}: ${(error as Error).message}`, { cause: error })
          }
          faults += result.faults
        }
      })
      console.info(`faults: ${faults} struck`)
      expect(faults).toBeGreaterThan(100)
    },
    timeFor(12_000),
  )

  it('a file cut short under us: an io error or the content as it was, never anything else', async () => {
    for (const options of variants) {
      const start = await prepared(options)
      const read = async (store: ByteStore): Promise<void> =>
        closing(await openStore(store), async (disk) => {
          const bytes = new Uint8Array(disk.size)
          await disk.read(0, bytes)
          expect(Buffer.compare(bytes.subarray(0, kept.length), kept)).toBe(0)
        })
      const { calls } = await attempt(start.clone(), { fault: 'truncated' }, read)
      for (let at = 0; at < calls; at++) {
        for (const length of [600, 5000, start.size - 3000]) {
          const { error, faults } = await attempt(start.clone(), { fault: 'truncated', at, size: length }, read)
          if (error !== undefined) expectIo(error, 'truncated')
          expect(faults).toBe(1)
        }
      }
    }
  })

  it(
    'while creating: an error, and no image that looks whole',
    async () => {
      for (const options of ['', 'preallocation=metadata', 'preallocation=full,cluster_size=4k', 'extended_l2=on']) {
        const create = async (store: ByteStore): Promise<void> => {
          const sibling = (): Promise<ByteStore> => Promise.reject(new Error('no second file'))
          await createImage({ store, sibling }, qcow2, { size: BigInt(size), options: optionsOf('qcow2', options) })
        }
        const { calls, error } = await attempt(
          new MemoryStore({ name: 'image.qcow2' }),
          { fault: 'ENOSPC', calls: writing },
          create,
        )
        expect(error).toBeUndefined()
        for (let at = 0; at < calls; at++) {
          const store = new MemoryStore({ name: 'image.qcow2' })
          const result = await attempt(store, { fault: 'ENOSPC', calls: writing, at, sticky: true }, create)
          expectIo(result.error, 'ENOSPC')
        }
      }
    },
    timeFor(1000),
  )

  it(
    'while repairing: an error, and the next repair makes it whole',
    async () => {
      const spec: Qcow2Spec = {
        clusterBits: 12,
        size: 65536n,
        clusters: {
          0: { kind: 'data', bytes: 0x11 },
          1: { kind: 'compressed', bytes: 0x22 },
          5: { kind: 'data', bytes: 0x55 },
        },
        snapshots: [{ id: '1', name: 'one', clusters: 'share' }],
      }
      const end = Date.now() + budget(3000)
      const random = new Random(runSeed)
      for (let round = 0; round < 2 || Date.now() < end; round++) {
        const image = buildQcow2(spec)
        if (round % 2 === 0)
          for (let i = 0; i < 4; i++)
            image.setCount(random.int(0, image.bytes.length / 4096 - 1), BigInt(random.int(0, 4)))
        else image.setU64(image.at.refcountTable, 0n)
        const start = MemoryStore.from(image.bytes, 'image.qcow2')
        const repair = async (store: ByteStore): Promise<void> => {
          await checkStore(store, 'all')
        }
        const { calls, error } = await attempt(
          start.clone(),
          { fault: 'EIO', calls: ['write', 'flush', 'resize', 'zero'] },
          repair,
        )
        expect(error).toBeUndefined()
        for (let at = 0; at < calls; at++) {
          const store = start.clone()
          const result = await attempt(
            store,
            { fault: 'EIO', calls: ['write', 'flush', 'resize', 'zero'], at, sticky: random.bool() },
            repair,
          )
          if (result.faults > 0) expectIo(result.error, 'EIO')
          await checkStore(store, 'all')
          const after = await checkStore(store, 'none')
          expect(
            [after.result.corruptions, after.result.leaks],
            `MORAINE_SEED=${runSeed}, round ${round}, call ${at}: ${after.lines.join('; ')}`,
          ).toEqual([0, 0])
          const guest = await closing(await openStore(store), async (disk) => {
            const bytes = new Uint8Array(disk.size)
            await disk.read(0, bytes)
            return bytes
          })
          expect(Buffer.compare(guest, guestOf(spec)), 'guest bytes').toBe(0)
        }
      }
    },
    timeFor(3000),
  )
})
