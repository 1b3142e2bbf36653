/** The order and the cuts of writes: what a target's writer allocates follows from them, so they are those of qemu-img. */
import { expect, it } from 'vitest'
import { planConversion, raw } from '../../src/index.ts'
import { cutSegments } from '../../src/operation/segments.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { newImage, openForReading, openForWriting, qemuWrites, randomPieces, recorded, writeSparse } from './support.ts'

const folder = temporaryFolder()

async function ourWrites(source: string, target: string, sparseBytes: number, existing: boolean) {
  const disk = await openForReading(source, 'raw')
  const out = recorded(existing ? await openForWriting(target, 'raw') : await newImage(target, raw, disk.size))
  try {
    const plan = await planConversion(disk, { format: raw, sparseBytes, ...(existing && { targetIsZero: false }) })
    await plan.run(out.disk)
  } finally {
    await out.disk.close()
    await disk.close()
  }
  return out.writes
}

describeWith(['qemu-img'], 'the writes of a conversion', () => {
  it.each([
    { name: 'the default', sparse: '4k', bytes: 4096 },
    { name: 'single sectors', sparse: '512', bytes: 512 },
    { name: 'no power of two', sparse: '1536', bytes: 1536 },
    { name: 'a cluster', sparse: '64k', bytes: 65_536 },
    { name: 'no detection', sparse: '0', bytes: 0 },
  ])('are those of qemu-img: $name', async ({ sparse, bytes }) => {
    const random = new Random(seed(`cuts with -S ${sparse}`))
    for (let round = 0; round < 4; round++) {
      const source = folder.fresh('.raw')
      const size = random.int(1, 16 * 1024 * 1024)
      writeSparse(source, size, randomPieces(random, size, random.int(0, 12), 6 * 1024 * 1024))
      const theirs = folder.fresh('.raw')
      const expected = await qemuWrites(['-f', 'raw', '-O', 'raw', '-S', sparse, source, theirs])
      expect(await ourWrites(source, folder.fresh('.raw'), bytes, false)).toEqual(expected)
      const again = await qemuWrites(['-n', '-f', 'raw', '-O', 'raw', '-S', sparse, source, theirs])
      const target = folder.fresh('.raw')
      writeSparse(target, Math.ceil(size / 512) * 512, [{ offset: 0, bytes: random.bytes(Math.min(size, 200_000)) }])
      expect(await ourWrites(source, target, bytes, true)).toEqual(again)
      await qemuImg('compare', '-s', '-f', 'raw', '-F', 'raw', theirs, target).catch(async () => {
        await qemuImg('compare', '-f', 'raw', '-F', 'raw', theirs, target)
      })
    }
  })
})

it('counts chunks anew after 2 GiB less a sector, as qemu-img 7.2 does', async () => {
  const total = 5 * 2 ** 30
  async function* allData() {
    yield [{ offset: 0, length: total, allocated: true, data: true, zero: false, depth: 0 }]
  }
  const odd: { offset: number; length: number }[] = []
  let end = 0
  for await (const batch of cutSegments(allData(), { total, overBacking: false, sourceAlignment: 512 })) {
    for (const { offset, length } of batch) {
      expect(offset).toBe(end)
      end = offset + length
      if (length !== 2_097_152) odd.push({ offset, length })
    }
  }
  // From the trace of `qemu-img convert -S 0` of a 5 GiB file.
  expect(odd).toEqual([
    { offset: 2_145_386_496, length: 2_096_640 },
    { offset: 4_292_869_632, length: 2_096_640 },
    { offset: 5_368_708_096, length: 1024 },
  ])
})
