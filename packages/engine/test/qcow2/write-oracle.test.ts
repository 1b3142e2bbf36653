/** The engine writes, QEMU judges: random steps on images of every kind, made by qemu-img or by the engine; then the guest's bytes are
 *  the model's for both, the snapshots' too, and qemu-img's check finds nothing. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createFile, openWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { DiskModel, type Step } from '../support/model.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, expectClean, guestSha, qemuImg } from '../support/qemu.ts'
import { budget, combinations, Random, seed, timeFor } from '../support/random.ts'
import { expectSameCheck, expectSameInfo, expectSameMap } from './oracle.ts'
import { allSteps, contentSteps } from './steps.ts'

const folder = temporaryFolder()

const axes = combinations({
  maker: ['qemu', 'engine'],
  compat: ['0.10', '1.1'],
  cluster: [512, 4096, 65536, 2 << 20],
  refcount: [1, 2, 4, 8, 16, 32, 64],
  extended: [false, true],
  compression: ['zlib', 'zstd'],
  preallocation: ['off', 'metadata'],
  lazy: [false, true],
  backing: ['none', 'raw', 'qcow2'],
  data: ['none', 'file', 'raw'],
}).filter(
  (one) =>
    (one.compat === '1.1' ||
      (one.refcount === 16 && !one.extended && !one.lazy && one.compression === 'zlib' && one.data === 'none')) &&
    (!one.extended || one.cluster >= 16384) &&
    (one.backing === 'none' || one.preallocation === 'off' || one.extended) &&
    (one.data !== 'raw' || one.backing === 'none'),
)

type Combination = (typeof axes)[number]

/** Virtual size: a few clusters, the last one cut. */
const sizeOf = (one: Combination): number => (one.cluster < 65536 ? 300_000 - (300_000 % 512) : 1_400_320)

/** Makes the image; what it holds at the start. */
async function make(one: Combination, random: Random): Promise<{ file: string; bytes: Uint8Array }> {
  const file = folder.fresh('.qcow2')
  const size = sizeOf(one)
  const options = [`compat=${one.compat}`, `cluster_size=${one.cluster}`, `preallocation=${one.preallocation}`]
  if (one.compat === '1.1') {
    options.push(`refcount_bits=${one.refcount}`, `compression_type=${one.compression}`)
    options.push(`extended_l2=${one.extended ? 'on' : 'off'}`, `lazy_refcounts=${one.lazy ? 'on' : 'off'}`)
  }
  if (one.data !== 'none') options.push(`data_file=${file}.data`, `data_file_raw=${one.data === 'raw' ? 'on' : 'off'}`)
  const bytes = new Uint8Array(size)
  let backing: { name: string; format: string } | undefined
  if (one.backing !== 'none') {
    const base = folder.fresh('.base')
    // Shorter than the disk or longer.
    const below = random.bytes(Math.floor((size * random.int(1, 3)) / 2 / 512) * 512)
    bytes.set(below.subarray(0, size))
    writeFileSync(base, below)
    if (one.backing === 'qcow2') {
      copyFileSync(base, `${base}.raw`)
      await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', `${base}.raw`, base)
    }
    backing = { name: basename(base), format: one.backing }
  }
  if (one.maker === 'engine') await createFile(file, 'qcow2', size, options.join(','), backing)
  else {
    const over = backing === undefined ? [] : ['-b', backing.name, '-F', backing.format]
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', options.join(','), ...over, file, `${size}`)
  }
  return { file, bytes }
}

async function play(one: Combination, steps: readonly Step[], random: Random): Promise<void> {
  const { file, bytes } = await make(one, random)
  const open = () => openWritable(file, 'qcow2')
  const model = new DiskModel(await open(), bytes, open)
  try {
    for (const step of steps) {
      await model.step(step)
      if (random.bool(0.2)) await model.compare()
    }
    await model.compare()
    await model.compareSnapshots()
  } finally {
    await model.disk.close()
  }
  await expectClean(file, 'qcow2')
  expect(await guestSha(file, 'qcow2'), 'guest bytes for QEMU').toBe(bytesSha(model.bytes))
  for (const { id, bytes: then } of model.snapshots) {
    const info = JSON.parse(await qemuImg('info', '--output=json', file)) as { snapshots: { id: string }[] }
    expect(info.snapshots.map((snapshot) => snapshot.id)).toContain(id)
    if (then.length === model.bytes.length)
      expect(await guestSha(file, 'qcow2', id), `snapshot ${id}`).toBe(bytesSha(then))
  }
  if (one.data === 'raw') {
    // It is a raw image by itself; it may go on to the end of its last cluster.
    const raw = readFileSync(`${file}.data`).subarray(0, model.bytes.length)
    expect(bytesSha(raw), 'the raw data file').toBe(bytesSha(model.bytes))
  }
  await expectSameInfo(file)
  await expectSameMap(file)
  await expectSameCheck(file)
}

function settings<T>(runSeed: number, ms: number): fc.Parameters<T> {
  return { seed: runSeed, numRuns: 1_000_000, interruptAfterTimeLimit: budget(ms), markInterruptAsFailure: false }
}

describeWith(['qemu-img', 'qemu-io'], 'qcow2 images that the engine writes', () => {
  it(
    'hold what was written, in every combination',
    async () => {
      let runs = 0
      const kinds = fc.constantFrom(...axes)
      const property = fc.asyncProperty(kinds, contentSteps, fc.nat(), async (one, steps, n) => {
        runs++
        await play(one, steps, new Random(n))
      })
      await fc.assert(property, settings(seed('write-oracle'), 25_000))
      console.info(`write-oracle: ${runs} images`)
      expect(runs).toBeGreaterThan(5)
    },
    timeFor(25_000),
  )

  it(
    'survive snapshots and changes of size in any order',
    async () => {
      let runs = 0
      const kinds = fc.constantFrom(...axes.filter((one) => one.data === 'none'))
      const property = fc.asyncProperty(kinds, allSteps, fc.nat(), async (one, steps, n) => {
        runs++
        await play(one, steps, new Random(n))
      })
      await fc.assert(property, settings(seed('write-oracle with snapshots'), 25_000))
      console.info(`write-oracle with snapshots: ${runs} images`)
      expect(runs).toBeGreaterThan(5)
    },
    timeFor(25_000),
  )
})
