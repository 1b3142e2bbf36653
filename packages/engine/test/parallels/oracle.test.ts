/** Parallels images and QEMU, both ways. */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { expectSameAsQemu } from '../support/block-subject.ts'
import { createFile, kindOf, openWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { DiskModel } from '../support/model.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, expectClean, guestSha, qemuImg, qemuIo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { asOld, masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()

describeWith(['qemu-img', 'qemu-io'], 'new parallels images', () => {
  it.each(
    [0, 1, 512, 1 << 20, (1 << 20) + 1, 100 << 20, 2 ** 40 + 512].flatMap((size) =>
      ['cluster_size=1M', 'cluster_size=64k', 'cluster_size=1000', 'cluster_size=3M'].map((o) => [size, o] as const),
    ),
  )('of %i bytes with %s have the bytes that qemu-img gives them', async (size, options) => {
    // A table of gigabytes says no more than one of megabytes.
    if (size > 2 ** 39 && options === 'cluster_size=1000') return
    const ours = folder.fresh('.hds')
    const theirs = folder.fresh('.hds')
    await qemuImg('create', '-q', '-f', 'parallels', '-o', options, theirs, `${size}`)
    await createFile(ours, 'parallels', size, options)
    expect(statSync(ours).size).toBe(statSync(theirs).size)
    if (statSync(ours).size < 16 << 20) expect(Buffer.compare(readFileSync(ours), readFileSync(theirs))).toBe(0)
    rmSync(ours)
    rmSync(theirs)
  })

  it('of clusters that do not fit are refused', async () => {
    const make = (size: number | bigint, options: string) =>
      kindOf(createFile(folder.fresh(), 'parallels', size, options))
    expect(await make(1 << 20, 'cluster_size=0')).toBe('invalid')
    expect(await make(1 << 20, 'cluster_size=2G')).toBe('invalid')
    expect(await make(2n ** 42n, 'cluster_size=512')).toBe('invalid')
    expect(await make(2n ** 50n, 'cluster_size=1M')).toBe('limit')
  })

  it('of the old kind hold what either program wrote', async () => {
    const random = new Random(seed('parallels old'))
    for (const options of ['cluster_size=64k', 'cluster_size=32256']) {
      const file = folder.fresh('.hds')
      const size = 4 << 20
      await createFile(file, 'parallels', size, options)
      await qemuIo(file, 'parallels', 'write -P 1 1000k 70k')
      writeFileSync(file, asOld(readFileSync(file)))
      const bytes = new Uint8Array(size).fill(1, 1000 << 10, 1070 << 10)
      const open = () => openWritable(file, 'parallels')
      const model = new DiskModel(await open(), bytes, open)
      for (let i = 0; i < 10; i++) {
        const at = random.int(0, size - 1)
        await model.step({ do: 'write', at, length: Math.min(size - at, 90_000), seed: i })
      }
      await model.compare()
      await model.disk.close()
      expect(await guestSha(file, 'parallels')).toBe(bytesSha(model.bytes))
      await expectClean(file, 'parallels')
      await qemuIo(file, 'parallels', 'write -P 5 3M 200k')
      await expectSameAsQemu(subject, file)
    }
  })
})
