/** Reading dirty bitmaps and making them: the ranges that QEMU serves, the bits that QEMU stores, and images that stay sound when the power
 *  fails or a bitmap is refused. */
import { readFileSync } from 'node:fs'
import {
  allFormats,
  type DirtyRange,
  type Disk,
  isWritable,
  JournalStore,
  MemoryStore,
  type NewBitmap,
  openDisk,
  planConversion,
  type WritableDisk,
} from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing, createFile, formatOf, openWritable, optionsOf, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { checkStore, createInMemory, openStore, openStoreForWriting } from '../support/memory-image.ts'
import { describeWith, runOk, tool } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Spec } from '../support/qcow2-spec.ts'
import { expectClean, qemuImg, qemuIo } from '../support/qemu.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { expectSameCheck, expectSameInfo, expectSameMeasure } from './oracle.ts'
import { readBitmaps } from './stored-bitmaps.ts'

const folder = temporaryFolder()
const runSeed = seed('bitmap-copy')

async function rangesOf(disk: Disk, name: string): Promise<DirtyRange[]> {
  const list: DirtyRange[] = []
  for await (const batch of disk.bitmaps?.ranges(name) ?? []) list.push(...batch)
  return list
}

/** The ranges that are dirty by QEMU's reading: an NBD server shows one bitmap as a map of its own. */
async function qemuRanges(file: string, name: string): Promise<DirtyRange[]> {
  const socket = folder.fresh('.sock')
  // It goes when its first client goes.
  await runOk(tool('qemu-nbd').path ?? '', ['--fork', '-r', '-f', 'qcow2', '-B', name, '-k', socket, file])
  const options = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=qemu:dirty-bitmap:${name}`
  const map = JSON.parse(await qemuImg('map', '--output=json', '--image-opts', options))
  const list: DirtyRange[] = []
  for (const { start, length, data } of map as { start: number; length: number; data: boolean }[]) {
    if (data) continue
    const last = list.at(-1)
    if (last !== undefined && last.offset + last.length === start) last.length += length
    else list.push({ offset: start, length })
  }
  return list
}

async function makeRandom(random: Random, size: number): Promise<string> {
  const file = folder.fresh('.qcow2')
  const cluster = random.pick(['512', '4k', '64k', '2M'])
  await qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${cluster}`, file, `${size}`)
  for (let i = random.int(1, 4); i > 0; i--) {
    const granularity = random.pick(['512', '1k', '4k', '64k', '1M'])
    await qemuImg('bitmap', '--add', '-g', granularity, ...(random.bool(0.2) ? ['--disable'] : []), file, `b${i}`)
  }
  const lines = Array.from({ length: random.int(0, 12) }, () => {
    const at = random.int(0, size / 512 - 1) * 512
    return `write -P 7 ${at} ${Math.min(size - at, 512 * random.int(1, 400))}`
  })
  if (lines.length > 0) await qemuIo(file, 'qcow2', ...lines)
  return file
}

const sizes = [4 << 20, (3 << 20) + 512, 700 * 512, 512, 40 << 20]

describeWith(['qemu-img', 'qemu-io', 'qemu-nbd'], 'ranges of dirty bitmaps', () => {
  it(
    'are those that QEMU serves',
    async () => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(3000)
      do {
        const file = await makeRandom(random, random.pick(sizes))
        await withImage(file, 'qcow2', async (disk) => {
          for (const { name } of disk.bitmaps?.list() ?? []) {
            expect(await rangesOf(disk, name), `MORAINE_SEED=${runSeed}: ${name}`).toEqual(await qemuRanges(file, name))
          }
        })
      } while (Date.now() < end)
    },
    timeFor(3000),
  )
})

describeWith(['qemu-img', 'qemu-io'], 'converting with dirty bitmaps', () => {
  const targets = ['cluster_size=512', 'cluster_size=4k,refcount_bits=1', '', 'extended_l2=on', 'cluster_size=2M']

  it(
    'keeps every bit, whatever the shape of the target',
    async () => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(4000)
      do {
        const size = random.pick(sizes)
        const from = await makeRandom(random, size)
        const to = folder.fresh('.qcow2')
        const options = random.pick(targets)
        await createFile(to, 'qcow2', size, options)
        await withImage(from, 'qcow2', async (source) => {
          const format = formatOf('qcow2')
          const plan = await planConversion(source, { format, options: optionsOf('qcow2', options), bitmaps: true })
          expect(plan.losses.map(({ what }) => what)).not.toContain('bitmaps')
          await withWritable(to, 'qcow2', (target) => plan.run(target))
        })
        const what = `MORAINE_SEED=${runSeed}: ${options}`
        const stored = Object.entries(readBitmaps(to, size))
        expect(stored, what).toEqual(Object.entries(readBitmaps(from, size)))
        await expectClean(to, 'qcow2')
        await expectSameInfo(to)
        await expectSameCheck(to)
        await expectSameMeasure(to)
      } while (Date.now() < end)
    },
    timeFor(4000),
  )

  it('a bitmap that was just made follows the next write; one that stands beside it too', async () => {
    const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
    for (const file of [ours, theirs]) await qemuImg('create', '-q', '-f', 'qcow2', file, '4M')
    await qemuImg('bitmap', '--add', theirs, 'first')
    await qemuIo(theirs, 'qcow2', 'write -P 1 1M 64k')
    await qemuImg('bitmap', '--add', '-g', '4k', theirs, 'second')
    await qemuImg('bitmap', '--add', '--disable', '-g', '4k', theirs, 'third')
    await qemuIo(theirs, 'qcow2', 'write -P 2 2M 10k')
    await withWritable(ours, 'qcow2', async (disk) => {
      await disk.bitmaps?.add([{ name: 'first', granularity: 65536, enabled: true }])
      await disk.write(1 << 20, new Uint8Array(65536).fill(1))
      await disk.bitmaps?.add([
        { name: 'second', granularity: 4096, enabled: true },
        { name: 'third', granularity: 4096, enabled: false },
      ])
      await disk.write(2 << 20, new Uint8Array(10240).fill(2))
      expect(disk.bitmaps?.list().every(({ inconsistent }) => !inconsistent)).toBe(true)
      expect(await rangesOf(disk, 'second')).toEqual([{ offset: 2 << 20, length: 12288 }])
    })
    expect(Object.entries(readBitmaps(ours, 4 << 20))).toEqual(Object.entries(readBitmaps(theirs, 4 << 20)))
    await expectClean(ours, 'qcow2')
    await expectSameInfo(ours)
  })

  it('an image whose bitmaps nobody vouches for gets new ones', async () => {
    const file = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', file, '4M')
    await qemuImg('bitmap', '--add', file, 'old')
    const disk = await openWritable(file, 'qcow2')
    await disk.close()
    const bytes = readFileSync(file)
    bytes.writeBigUInt64BE(0n, 88)
    const store = MemoryStore.from(bytes)
    await closing(await openStoreForWriting(store), (writable) => added(writable, [{ ...plain, name: 'new' }]))
    await closing(await openStoreForWriting(store), async ({ bitmaps }) => {
      expect(bitmaps?.list().map(({ name }) => name)).toEqual(['new'])
    })
    const { result } = await checkStore(store, 'none')
    // The directory and the table of the old one.
    expect([result.corruptions, result.leaks]).toEqual([0, 2])
  })
})

const plain = { name: 'b', granularity: 65536, enabled: true }

async function added(disk: WritableDisk, bitmaps: NewBitmap[]): Promise<void> {
  if (disk.bitmaps === undefined) throw new Error('the image has no place for bitmaps')
  await disk.bitmaps.add(bitmaps)
}

async function* these(...ranges: DirtyRange[]): AsyncIterable<DirtyRange[]> {
  yield ranges
}

describe('bitmaps that are refused', () => {
  const refused: [what: string, bitmap: Partial<NewBitmap>, kind: string, reason: string][] = [
    ['a name that is taken', { name: 'there' }, 'invalid', 'Bitmap already exists: there'],
    ['a name that comes twice', { name: 'good' }, 'invalid', 'Bitmap already exists: good'],
    ['no name', { name: '' }, 'invalid', 'Bitmap name cannot be empty'],
    ['a long name', { name: 'ä'.repeat(512) }, 'invalid', 'Bitmap name is too long'],
    ['granules of 256 bytes', { granularity: 256 }, 'invalid', 'Granularity is under minimum (512 bytes)'],
    ['granules of 3000 bytes', { granularity: 3000 }, 'invalid', 'Granularity must be power of 2'],
    ['granules of 4 GiB', { granularity: 2 ** 32 }, 'invalid', 'Granularity exceeds maximum (2147483648 bytes)'],
    [
      'ranges out of order',
      { ranges: these({ offset: 65536, length: 1 }, { offset: 0, length: 1 }) },
      'invalid',
      'a dirty range is out of order or leaves the disk',
    ],
    [
      'a range past the end',
      { ranges: these({ offset: 0, length: 1 }, { offset: 1 << 20, length: 1 }) },
      'invalid',
      'a dirty range is out of order or leaves the disk',
    ],
  ]

  it.each(refused)('%s: nothing is added', async (_what, bitmap, kind, reason) => {
    const store = await createInMemory(1 << 20, 'cluster_size=4k')
    const disk = await openStoreForWriting(store)
    await added(disk, [{ ...plain, name: 'there' }])
    const good = { ...plain, name: 'good', ranges: these({ offset: 0, length: 1 << 20 }) }
    await expect(added(disk, [good, { ...plain, ...bitmap }])).rejects.toMatchObject({ kind, reason })
    expect(disk.bitmaps?.list().map(({ name }) => name)).toEqual(['there'])
    await disk.close()
    const { result, lines } = await checkStore(store, 'none')
    expect([result.corruptions, result.leaks], lines.join('; ')).toEqual([0, 0])
  })

  it('too many bits for the disk', async () => {
    const disk = await openStoreForWriting(await createInMemory(8 * 2 ** 40, 'cluster_size=2M'))
    await expect(added(disk, [{ ...plain, granularity: 1024 }])).rejects.toMatchObject({
      kind: 'limit',
      reason: 'Too much space will be occupied by the bitmap. Use larger granularity',
    })
    await added(disk, [{ ...plain, granularity: 2048 }])
    await disk.close()
  })

  it('no room in the header: QEMU loses the bitmaps, here nothing changes', async () => {
    const name = `${'./'.repeat(178)}base`
    const store = await overlay(1 << 20, 'cluster_size=512', name)
    const disk = await openOverlay(store)
    const before = store.bytes()
    await expect(added(disk, [plain])).rejects.toMatchObject({ kind: 'invalid', code: 'ENOSPC' })
    await disk.close()
    expect(Buffer.compare(store.bytes(), before)).toBe(0)
  })

  it('a version 2 image has no place for any', async () => {
    const disk = await openStoreForWriting(await createInMemory(1 << 20, 'compat=0.10'))
    expect(disk.bitmaps).toBeUndefined()
    await disk.close()
  })
})

describe('bitmaps of built images', () => {
  const spec: Qcow2Spec = {
    clusterBits: 12,
    size: 300_000_256n,
    clusters: {},
    bitmaps: [
      { name: 'ones', granularityBits: 12, flags: 2, table: ['zeros', 'ones', 'ones'] },
      { name: 'mixed', granularityBits: 12, flags: 0, table: [new Uint8Array([0, 0x80]), 'ones', new Uint8Array([3])] },
      { name: 'in use', granularityBits: 12, flags: 3, table: ['ones', 'zeros', 'zeros'] },
    ],
  }
  // One cluster of bits covers this much.
  const part = 4096 * 8 * 4096

  it('with clusters that are all ones or all zeros', async () => {
    await closing(await openStore(MemoryStore.from(buildQcow2(spec).bytes)), async (disk) => {
      expect(await rangesOf(disk, 'ones')).toEqual([{ offset: part, length: 300_000_256 - part }])
      expect(await rangesOf(disk, 'mixed')).toEqual([
        { offset: 15 * 4096, length: 4096 },
        { offset: part, length: part + 8192 },
      ])
      expect(disk.bitmaps?.list().map(({ inconsistent }) => inconsistent)).toEqual([false, false, true])
      await expect(rangesOf(disk, 'in use')).rejects.toMatchObject({ kind: 'invalid' })
      await expect(rangesOf(disk, 'nobody')).rejects.toMatchObject({ kind: 'missing' })
    })
  })

  it.each([
    ['reserved bits', 0x1fen],
    ['both an offset and ones', 1n],
    ['an offset that is not aligned', 512n],
    ['an offset past 2^53', 1n << 55n],
    ['bits past the offset', 1n << 56n],
  ])('with a table entry of %s are corrupt, for reading and for following writes', async (_what, bits) => {
    const image = buildQcow2(spec)
    const table = image.at.bitmapTables[1] ?? 0
    image.setU64(table, image.getU64(table) | bits)
    const enabled = image.at.bitmapEntries[1] ?? 0
    image.setU32(enabled + 12, 2)
    const disk = await openStoreForWriting(MemoryStore.from(image.bytes))
    const expected = { kind: 'corrupt', field: 'bitmap table entry' }
    expect(await rangesOf(disk, 'ones')).toEqual([{ offset: part, length: 300_000_256 - part }])
    await expect(rangesOf(disk, 'mixed')).rejects.toMatchObject(expected)
    await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject(expected)
    await disk.close().catch(() => {})
  })
})

/** An image that names a backing file; nobody opens it. */
async function overlay(size: number, options: string, name: string): Promise<MemoryStore> {
  const store = new MemoryStore({ name: 'image.qcow2' })
  const sibling = () => Promise.reject(new Error('no second file in memory'))
  const backing = { name, format: 'qcow2' }
  await formatOf('qcow2').create?.({ store, sibling }, { size, options: optionsOf('qcow2', options), backing })
  return store
}

async function openOverlay(store: MemoryStore | JournalStore): Promise<WritableDisk> {
  const disk = await openDisk(store, { formats: allFormats, format: 'qcow2', mode: 'write', purpose: 'info' })
  if (!isWritable(disk)) throw new Error('a disk opened for writing cannot be written')
  return disk
}

describe('power cuts while bitmaps are added', () => {
  // The names of features push the backing file's name over the first sectors of the header.
  it.each([
    ['over several sectors', '', 'a file of some name'],
    ['where the name crosses a sector', '', 'x'.repeat(600)],
    ['in clusters of 512 bytes', 'cluster_size=512', 'short'],
    ['in clusters of 4 KiB', 'cluster_size=4k', 'y'.repeat(330)],
    ['in clusters of 8 KiB', 'cluster_size=8k', 'z'.repeat(1023)],
  ])('with a header %s', async (_what, options, backingName) => {
    const random = new Random(runSeed)
    const initial = await overlay(1 << 20, options, backingName)
    const old = { ...plain, name: 'old', ranges: these({ offset: 0, length: 65536 }) }
    await closing(await openOverlay(initial), (disk) => added(disk, [old]))
    for (const start of [initial, await overlay(1 << 20, options, backingName)]) {
      const journal = new JournalStore(start)
      const names = await closing(await openOverlay(journal), async (disk) => {
        const before = disk.bitmaps?.list().map(({ name }) => name) ?? []
        await added(disk, [{ ...plain, name: 'new', ranges: these({ offset: 65536, length: 300_000 }) }])
        return before
      })
      for (let i = 0; i < 150; i++) {
        const time = i === 0 ? journal.entries.length : random.int(0, journal.entries.length)
        const image = await journal.cut(() => random.next(), time)
        const what = `MORAINE_SEED=${runSeed}, before entry ${time} of ${journal.entries.length}`
        await closing(await openOverlay(image), async (disk) => {
          expect(disk.info().backing, what).toEqual({ name: backingName, format: 'qcow2' })
          const found = disk.bitmaps?.list().map(({ name }) => name) ?? []
          // A cut may cost the bitmaps, but never leave one that lies.
          expect([[], names, [...names, 'new']], what).toContainEqual(found)
          if (time === journal.entries.length) expect(found).toEqual([...names, 'new'])
          if (found.includes('old')) expect(await rangesOf(disk, 'old'), what).toEqual([{ offset: 0, length: 65536 }])
          if (found.includes('new')) {
            expect(await rangesOf(disk, 'new'), what).toEqual([{ offset: 65536, length: 327_680 }])
          }
        })
        const { result, lines } = await checkStore(image, 'none')
        expect([result.corruptions, result.checkErrors], `${what}: ${lines.join('; ')}`).toEqual([0, 0])
      }
    }
  })
})
