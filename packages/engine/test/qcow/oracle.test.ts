/** qcow and QEMU, both ways. */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { planConversion } from '@moraine/engine'
import { expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { expectSameAsQemu } from '../support/block-subject.ts'
import { createFile, formatOf, kindOf, openWritable, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { DiskModel } from '../support/model.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, guestSha, qemuImg, qemuIo, tryQemuImg } from '../support/qemu.ts'
import { budget, Random, seed } from '../support/random.ts'
import { masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()

/** QEMU 7.2 ends with exit code 1 and without a word: it writes nothing, packed, to say that it is done, and qcow takes that for a mistake. The image is whole. */
async function packedByQemu(raw: string, file: string): Promise<void> {
  const { stderr } = await tryQemuImg(['convert', '-c', '-f', 'raw', '-O', 'qcow', raw, file])
  expect(stderr).toBe('')
}

describeWith(['qemu-img'], 'new qcow images', () => {
  it.each([1, 512, 4096, (2 << 20) - 512, 2 << 20, (2 << 20) + 1, 128 << 20, (128 << 20) + 512, 2 ** 40 + 512])(
    'of %i bytes have the bytes that qemu-img gives them',
    async (size) => {
      const ours = folder.fresh('.qcow')
      const theirs = folder.fresh('.qcow')
      await qemuImg('create', '-q', '-f', 'qcow', theirs, `${size}`)
      await createFile(ours, 'qcow', size)
      expect(statSync(ours).size).toBe(statSync(theirs).size)
      expect(Buffer.compare(readFileSync(ours), readFileSync(theirs))).toBe(0)
      rmSync(ours)
      rmSync(theirs)
    },
  )

  it('of nothing, and of more than an L1 table maps, are refused', async () => {
    expect(await kindOf(createFile(folder.fresh(), 'qcow', 0))).toBe('invalid')
    expect(await kindOf(createFile(folder.fresh(), 'qcow', 2n ** 50n))).toBe('limit')
  })
})

describeWith(['qemu-img', 'qemu-io'], 'qcow images over a backing file', () => {
  it('have the bytes that qemu-img gives them', async () => {
    for (const name of ['b', 'base', 'a-longer-name.raw', 'x'.repeat(200)]) {
      writeFileSync(folder.file(name), new Uint8Array(1 << 20).fill(7))
      const theirs = folder.fresh('.qcow')
      const ours = folder.fresh('.qcow')
      await qemuImg('create', '-q', '-f', 'qcow', '-b', name, '-F', 'raw', theirs, '1M')
      await createFile(ours, 'qcow', 1 << 20, '', { name, format: 'raw' })
      expect(Buffer.compare(readFileSync(ours), readFileSync(theirs)), name).toBe(0)
      expect(await withImage(ours, 'qcow', async (disk) => disk.info().backing)).toEqual({ name })
    }
  })

  it('keep what was written over the backing file, by either program', async () => {
    const random = new Random(seed('qcow backing'))
    const end = Date.now() + budget(3000)
    for (let round = 0; round < 2 || Date.now() < end; round++) {
      const size = 512 * random.int(2000, 5000)
      const baseSize = 512 * random.int(1000, 6000)
      const base = folder.fresh('.raw')
      const content = random.bytes(baseSize)
      writeFileSync(base, content)
      const file = folder.fresh('.qcow')
      await qemuImg('create', '-q', '-f', 'qcow', '-b', base, '-F', 'raw', file, `${size}`)
      const bytes = new Uint8Array(size)
      bytes.set(content.subarray(0, size))
      const open = () => openWritable(file, 'qcow')
      const model = new DiskModel(await open(), bytes, open)
      for (let i = 0; i < 12; i++) {
        const at = random.int(0, size - 1)
        const length = Math.min(random.int(1, 300_000), size - at)
        const kind = random.int(0, 3)
        if (kind < 2) await model.step({ do: 'write', at, length, seed: random.int(0, 1e9) })
        else if (kind < 3) await model.step({ do: 'zero', at, length, mode: random.bool() ? 'unmap' : 'allocate' })
        else await model.step({ do: 'flush' })
      }
      await model.compare()
      await model.disk.close()
      expect(await guestSha(file, 'qcow'), 'guest bytes for QEMU').toBe(bytesSha(model.bytes))
      const at = random.int(0, Math.floor(size / 512) - 200) * 512
      await qemuIo(file, 'qcow', `write -P 9 ${at} 100k`)
      model.bytes.fill(9, at, at + 102_400)
      await withImage(file, 'qcow', async (disk) => {
        const all = new Uint8Array(disk.size)
        await disk.read(0, all)
        expect(Buffer.compare(all, model.bytes), 'guest bytes for us').toBe(0)
      })
      for (const path of [base, file]) rmSync(path)
    }
  })

  it('copy what lies below around a write, where a cluster is larger than a sector', async () => {
    // QEMU makes such images of 512-byte clusters only; of others it would show zeros around the write.
    const base = folder.fresh('.raw')
    const content = new Random(3).bytes(1 << 20)
    writeFileSync(base, content)
    const file = folder.fresh('.qcow')
    await createFile(file, 'qcow', 1 << 20, '', { name: base, format: 'raw' })
    const image = readFileSync(file)
    image[32] = 12
    image[33] = 9
    writeFileSync(file, image)
    await withWritable(file, 'qcow', async (disk) => {
      await disk.write(10_000, new Uint8Array(5000).fill(1))
      content.fill(1, 10_000, 15_000)
      await disk.zero(20_000, 100, 'unmap')
      content.fill(0, 20_000, 20_100)
    })
    await withImage(file, 'qcow', async (disk) => {
      const all = new Uint8Array(disk.size)
      await disk.read(0, all)
      expect(Buffer.compare(all, content)).toBe(0)
    })
    expect(await guestSha(file, 'qcow')).toBe(bytesSha(content))
  })
})

describeWith(['qemu-img', 'qemu-io'], 'packed qcow images', () => {
  const size = 3_000_320
  const content = new Uint8Array(size)
  const random = new Random(11)
  for (let at = 0; at < size - 70_000; at += 150_000) {
    content.fill(random.int(1, 255), at, at + 60_000)
    content.set(random.bytes(9000), at + 60_000)
  }
  content.fill(3, size - 1000)

  it('made by qemu-img are read, and written over by either program', async () => {
    const raw = folder.fresh('.raw')
    writeFileSync(raw, content)
    const file = folder.fresh('.qcow')
    await packedByQemu(raw, file)
    await expectSameAsQemu(subject, file)
    const bytes = content.slice()
    await withWritable(file, 'qcow', async (disk) => {
      for (const [at, length] of [
        [5, 3],
        [4096, 4096],
        [150_001, 30_000],
        [size - 2000, 1000],
      ] as const) {
        await disk.write(at, new Uint8Array(length).fill(0xee))
        bytes.fill(0xee, at, at + length)
      }
      await disk.zero(300_000, 30_000, 'unmap')
      bytes.fill(0, 300_000, 330_000)
    })
    expect(await guestSha(file, 'qcow')).toBe(bytesSha(bytes))
    await qemuIo(file, 'qcow', 'write -P 4 451k 9k')
    bytes.fill(4, 451 << 10, 460 << 10)
    await expectSameAsQemu(subject, file)
    expect(await guestSha(file, 'qcow')).toBe(bytesSha(bytes))
  })

  it('made here are read by qemu-img, and as small as its own', async () => {
    const raw = folder.fresh('.raw')
    writeFileSync(raw, content)
    const theirs = folder.fresh('.qcow')
    const ours = folder.fresh('.qcow')
    await packedByQemu(raw, theirs)
    await createFile(ours, 'qcow', size)
    await withImage(raw, 'raw', async (source) => {
      const plan = await planConversion(source, { format: formatOf('qcow'), compress: true })
      await withWritable(ours, 'qcow', async (disk) => {
        await plan.run(disk)
        const back = new Uint8Array(size)
        await disk.read(0, back)
        expect(Buffer.compare(back, content)).toBe(0)
      })
    })
    expect(await guestSha(ours, 'qcow')).toBe(bytesSha(content))
    await expectSameAsQemu(subject, ours)
    expect(statSync(ours).size).toBeLessThan(statSync(theirs).size * 1.1)
  })

  it('take no packed cluster where one is allocated', async () => {
    const file = folder.fresh('.qcow')
    await createFile(file, 'qcow', size)
    await withWritable(file, 'qcow', async (disk) => {
      await disk.write(0, new Uint8Array(10).fill(1))
      expect(await kindOf(disk.writePacked?.(0, new Uint8Array(10)) ?? Promise.resolve())).toBe('invalid')
      expect(await kindOf(disk.writePacked?.(5, new Uint8Array(10)) ?? Promise.resolve())).toBe('invalid')
    })
  })
})
