/** QED and QEMU, both ways. */
import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { createFile, kindOf, openWritable, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { DiskModel } from '../support/model.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, expectClean, guestSha, qemuCheck, qemuImg, qemuIo } from '../support/qemu.ts'
import { budget, Random, seed } from '../support/random.ts'
import { masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()
const needCheck = 2

describeWith(['qemu-img'], 'new QED images', () => {
  it.each(
    [0, 1, 512, 65_536, 65_537, 128 << 20, 2 ** 40 + 512].flatMap((size) =>
      ['', 'cluster_size=4k', 'cluster_size=2M,table_size=1', 'table_size=16', 'cluster_size=8k,table_size=2'].map(
        (options) => [size, options] as const,
      ),
    ),
  )('of %i bytes with %s have the bytes that qemu-img gives them', async (size, options) => {
    // Small clusters map less.
    if (size > 2 ** 39 && /=[48]k/.test(options)) return
    const ours = folder.fresh('.qed')
    const theirs = folder.fresh('.qed')
    await qemuImg('create', '-q', '-f', 'qed', ...(options === '' ? [] : ['-o', options]), theirs, `${size}`)
    await createFile(ours, 'qed', size, options)
    expect(statSync(ours).size).toBe(statSync(theirs).size)
    expect(Buffer.compare(readFileSync(ours), readFileSync(theirs))).toBe(0)
    rmSync(ours)
    rmSync(theirs)
  })

  it('that do not fit are refused', async () => {
    const make = (size: number | bigint, options: string) => kindOf(createFile(folder.fresh(), 'qed', size, options))
    expect(await make(1 << 20, 'cluster_size=2k')).toBe('invalid')
    expect(await make(1 << 20, 'cluster_size=128M')).toBe('invalid')
    expect(await make(1 << 20, 'cluster_size=5000')).toBe('invalid')
    expect(await make(1 << 20, 'table_size=0')).toBe('invalid')
    expect(await make(1 << 20, 'table_size=3')).toBe('invalid')
    expect(await make(1 << 20, 'table_size=32')).toBe('invalid')
    expect(await make(2n ** 46n + 512n, '')).toBe('invalid')
    // QEMU's count of what the tables map runs over.
    expect(await make(1 << 20, 'cluster_size=64M')).toBe('invalid')
  })
})

describeWith(['qemu-img', 'qemu-io'], 'QED images over a backing file', () => {
  it('have the bytes that qemu-img gives them', async () => {
    for (const name of ['b', 'a-longer-name.raw', 'x'.repeat(200)]) {
      for (const format of ['raw', 'qed']) {
        await qemuImg('create', '-q', '-f', format, folder.file(name), '1M')
        const theirs = folder.fresh('.qed')
        const ours = folder.fresh('.qed')
        await qemuImg('create', '-q', '-f', 'qed', '-b', name, '-F', format, theirs, '1M')
        await createFile(ours, 'qed', 1 << 20, '', { name, format })
        expect(Buffer.compare(readFileSync(ours), readFileSync(theirs)), `${name} ${format}`).toBe(0)
        expect(await withImage(ours, 'qed', async (disk) => disk.info().backing)).toEqual(
          format === 'raw' ? { name, format } : { name },
        )
      }
    }
  })

  it('refuse a name that does not fit beside the header', async () => {
    writeFileSync(folder.file('base-of-a-long-name'), new Uint8Array(512))
    const long = { name: `${'./'.repeat(2010)}base-of-a-long-name`, format: 'raw' }
    expect(await kindOf(createFile(folder.fresh(), 'qed', 512, 'cluster_size=4k', long))).toBe('invalid')
  })

  it('keep what was written over the backing file, by either program', async () => {
    const random = new Random(seed('qed backing'))
    const end = Date.now() + budget(3000)
    for (let round = 0; round < 2 || Date.now() < end; round++) {
      const size = 512 * random.int(2000, 5000)
      const baseSize = 512 * random.int(1000, 6000)
      const base = folder.fresh('.raw')
      const content = random.bytes(baseSize)
      writeFileSync(base, content)
      const file = folder.fresh('.qed')
      const options = random.pick(['cluster_size=4k', 'cluster_size=16k,table_size=2', 'cluster_size=64k'])
      await qemuImg('create', '-q', '-f', 'qed', '-o', options, '-b', base, '-F', 'raw', file, `${size}`)
      const bytes = new Uint8Array(size)
      bytes.set(content.subarray(0, size))
      const open = () => openWritable(file, 'qed')
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
      expect(await guestSha(file, 'qed'), 'guest bytes for QEMU').toBe(bytesSha(model.bytes))
      await expectClean(file, 'qed')
      const at = random.int(0, Math.floor(size / 65_536) - 4) * 65_536
      await qemuIo(file, 'qed', `write -P 9 ${at} 128k`, `write -z ${at + 131_072} 64k`)
      model.bytes.fill(9, at, at + 131_072)
      model.bytes.fill(0, at + 131_072, at + 196_608)
      await withImage(file, 'qed', async (disk) => {
        const all = new Uint8Array(disk.size)
        await disk.read(0, all)
        expect(Buffer.compare(all, model.bytes), 'guest bytes for us').toBe(0)
      })
      for (const path of [base, file]) rmSync(path)
    }
  })

  it('show zeros around a write into a cluster of zeros', async () => {
    // QEMU 7.2 copies what the backing file has there.
    const base = folder.fresh('.raw')
    writeFileSync(base, new Uint8Array(1 << 20).fill(7))
    const file = folder.fresh('.qed')
    await qemuImg('create', '-q', '-f', 'qed', '-b', base, '-F', 'raw', file)
    await qemuIo(file, 'qed', 'write -z 0 64k')
    await withWritable(file, 'qed', (disk) => disk.write(1000, new Uint8Array(10).fill(1)))
    const expected = new Uint8Array(1 << 20).fill(7)
    expected.fill(0, 0, 65_536).fill(1, 1000, 1010)
    expect(await guestSha(file, 'qed')).toBe(bytesSha(expected))
  })

  it('grow over a longer backing file without showing it', async () => {
    // QEMU 7.2 refuses this.
    const base = folder.fresh('.raw')
    writeFileSync(base, new Uint8Array(3 << 20).fill(7))
    const file = folder.fresh('.qed')
    const before = (1 << 20) + 1024
    await qemuImg('create', '-q', '-f', 'qed', '-b', base, '-F', 'raw', file, `${before}`)
    await withWritable(file, 'qed', (disk) => disk.resize(4 << 20))
    const expected = new Uint8Array(4 << 20).fill(7, 0, before)
    expect(await guestSha(file, 'qed')).toBe(bytesSha(expected))
    await expectClean(file, 'qed')
  })
})

describeWith(['qemu-img', 'qemu-io'], 'QED images', () => {
  it('grow, and do not shrink', async () => {
    const theirs = folder.fresh('.qed')
    const ours = folder.fresh('.qed')
    await qemuImg('create', '-q', '-f', 'qed', theirs, '1M')
    await qemuIo(theirs, 'qed', 'write -P 3 0 1M')
    copyFileSync(theirs, ours)
    await qemuImg('resize', '-q', '-f', 'qed', theirs, '3000320')
    await withWritable(ours, 'qed', (disk) => disk.resize(3_000_320))
    expect(Buffer.compare(readFileSync(ours), readFileSync(theirs))).toBe(0)
    await withWritable(ours, 'qed', async (disk) => {
      expect(await kindOf(disk.resize(1 << 20))).toBe('denied')
      expect(await kindOf(disk.resize(1 << 20, 'off', true))).toBe('unsupported')
      expect(await kindOf(disk.resize(4 << 20, 'full'))).toBe('unsupported')
      expect(await kindOf(disk.resize(2 ** 47))).toBe('invalid')
      expect(disk.size).toBe(3_000_320)
    })
  })

  it('with tables of one cluster are read and written, which QEMU 7.2 makes and does not open', async () => {
    const file = folder.fresh('.qed')
    await qemuImg('create', '-q', '-f', 'qed', '-o', 'cluster_size=4k,table_size=1', file, '5M')
    const bytes = new Uint8Array(5 << 20)
    const open = () => openWritable(file, 'qed')
    const model = new DiskModel(await open(), bytes, open)
    for (let i = 0; i < 6; i++) await model.step({ do: 'write', at: i * 800_001, length: 70_000, seed: i })
    await model.compare()
    await model.disk.close()
  })

  it('say that they are open until they are closed, and are checked when they were not', async () => {
    const file = folder.fresh('.qed')
    await createFile(file, 'qed', 4 << 20)
    const open = await openWritable(file, 'qed')
    await open.write(0, new Uint8Array(200_000).fill(5))
    await open.flush()
    expect(readFileSync(file)[16], 'features while it is written').toBe(needCheck)
    // As if the program had been killed.
    const killed = folder.fresh('.qed')
    copyFileSync(file, killed)
    await open.close()
    expect(readFileSync(file)[16], 'features once it is closed').toBe(0)
    await withImage(killed, 'qed', async (disk) => expect(disk.info().dirty).toBe(true))
    expect(readFileSync(killed)[16], 'reading changes nothing').toBe(needCheck)
    // An entry that points nowhere, as a torn write leaves it.
    const image = readFileSync(killed)
    const table = Number(image.readBigUInt64LE(65_536))
    image.writeBigUInt64LE(1n << 40n, table + 8)
    writeFileSync(killed, image)
    await withWritable(killed, 'qed', async (disk) => {
      const part = new Uint8Array(65_536)
      await disk.read(65_536, part)
      expect(part.every((byte) => byte === 0)).toBe(true)
      expect(disk.info().dirty).toBe(false)
    })
    // The cluster of that entry is lost.
    expect(await qemuCheck(killed, 'qed')).toMatchObject({ code: 3, leaks: 1, 'check-errors': 0 })
  })
})
