/** One image in the hands of both: the engine and QEMU write it in turn, make chains over each other's images, take and delete each
 *  other's snapshots. */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { expect, it } from 'vitest'
import { createFile, diskSha, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import { bytesSha, expectClean, guestSha, qemuImg, qemuIo, qemuIoKilled } from '../support/qemu.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { expectSameAll, expectSameMap } from './oracle.ts'

const folder = temporaryFolder()

describeWith(['qemu-img', 'qemu-io'], 'qcow2 images written by the engine and QEMU in turn', () => {
  const runSeed = seed('mixed')

  it(
    'hold what both wrote',
    async () => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(8000)
      do {
        const size = random.pick([1 << 20, 700 * 512, 3 << 20])
        const options = random.pick([
          'cluster_size=512',
          'cluster_size=4k,refcount_bits=8',
          'cluster_size=64k,lazy_refcounts=on',
          'cluster_size=16k,extended_l2=on',
          'cluster_size=4k,compat=0.10',
          'cluster_size=2M,compression_type=zstd',
        ])
        const file = folder.fresh('.qcow2')
        if (random.bool()) await createFile(file, 'qcow2', size, options)
        else await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, file, `${size}`)
        const model = new Uint8Array(size)
        for (let turn = 0; turn < 6; turn++) {
          const steps = Array.from({ length: 4 }, () => {
            const at = random.int(0, size / 512 - 1) * 512
            return { at, length: Math.min(512 * random.int(1, 200), size - at), value: random.int(0, 255) }
          })
          if (turn % 2 === 0) {
            const lines = steps.map(({ at, length, value }) =>
              value === 0 ? `write -z ${at} ${length}` : `write -P ${value} ${at} ${length}`,
            )
            await qemuIo(file, 'qcow2', ...lines)
          } else {
            await withWritable(file, 'qcow2', async (disk) => {
              for (const { at, length, value } of steps) {
                if (value === 0) await disk.zero(at, length, 'unmap')
                else await disk.write(at, new Uint8Array(length).fill(value))
              }
            })
          }
          for (const { at, length, value } of steps) model.fill(value, at, at + length)
          const what = `MORAINE_SEED=${runSeed}, ${options}, turn ${turn}`
          await expectClean(file, 'qcow2')
          expect(await guestSha(file, 'qcow2'), `${what}, read by QEMU`).toBe(bytesSha(model))
          expect(await withImage(file, 'qcow2', diskSha), `${what}, read by the engine`).toBe(bytesSha(model))
        }
      } while (Date.now() < end)
    },
    timeFor(8000),
  )

  it('chains: raw, then each over the other', async () => {
    const random = new Random(runSeed)
    const base = folder.fresh('.raw')
    writeFileSync(base, random.bytes(600 * 512))
    const model = new Uint8Array(1 << 20)
    model.set(readFileSync(base))
    let below = { name: basename(base), format: 'raw' }
    for (let level = 0; level < 5; level++) {
      const file = folder.fresh('.qcow2')
      const options = `cluster_size=${random.pick(['512', '4k', '64k'])}`
      if (level % 2 === 0) await createFile(file, 'qcow2', 1 << 20, options, below)
      else await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, '-b', below.name, '-F', below.format, file, '1M')
      const at = random.int(0, 900_000)
      const bytes = random.bytes(random.int(1, 100_000))
      await withWritable(file, 'qcow2', (disk) => disk.write(at, bytes))
      model.set(bytes, at)
      await qemuIo(file, 'qcow2', `write -P ${level + 1} ${level * 100 * 1024} 3k`)
      model.fill(level + 1, level * 100 * 1024, level * 100 * 1024 + 3072)
      expect(await guestSha(file, 'qcow2')).toBe(bytesSha(model))
      expect(await withImage(file, 'qcow2', diskSha)).toBe(bytesSha(model))
      await expectClean(file, 'qcow2')
      await expectSameMap(file)
      below = { name: basename(file), format: 'qcow2' }
    }
  })

  it("snapshots: each applies and deletes the other's", async () => {
    const file = folder.fresh('.qcow2')
    await createFile(file, 'qcow2', 2 << 20, 'cluster_size=4k')
    const shas: Record<string, string> = {}
    await withWritable(file, 'qcow2', async (disk) => {
      await disk.write(0, new Random(1).bytes(300_000))
      await disk.snapshots?.create('ours')
      shas.ours = await diskSha(disk)
      await disk.write(100_000, new Random(2).bytes(100_000))
    })
    await qemuIo(file, 'qcow2', 'write -P 7 1M 100k', 'write -c -P 8 1536k 4k')
    await qemuImg('snapshot', '-c', 'theirs', file)
    shas.theirs = await guestSha(file, 'qcow2')
    await withWritable(file, 'qcow2', (disk) => disk.zero(0, 1 << 20, 'unmap'))
    await expectSameAll(file)
    await qemuImg('snapshot', '-a', 'ours', file)
    expect(await withImage(file, 'qcow2', diskSha)).toBe(shas.ours)
    await withWritable(file, 'qcow2', async (disk) => disk.snapshots?.apply('theirs'))
    expect(await guestSha(file, 'qcow2')).toBe(shas.theirs)
    await expectClean(file, 'qcow2')
    await qemuImg('snapshot', '-d', 'ours', file)
    await withWritable(file, 'qcow2', async (disk) => disk.snapshots?.delete('theirs'))
    expect(await guestSha(file, 'qcow2')).toBe(shas.theirs)
    await expectSameAll(file)
    const info = await withImage(file, 'qcow2', async (disk) => disk.info())
    expect(info.snapshots).toEqual([])
  })

  it('an image that a killed QEMU left dirty is repaired by the first writer', async () => {
    const file = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', file, '4M')
    await qemuIoKilled(file, 'qcow2', 'write -P 5 0 2M')
    expect(await withImage(file, 'qcow2', async (disk) => disk.info().dirty)).toBe(true)
    await withWritable(file, 'qcow2', (disk) => disk.write(3 << 20, new Uint8Array(65536).fill(6)))
    expect(await withImage(file, 'qcow2', async (disk) => disk.info().dirty)).toBe(false)
    await expectSameAll(file)
    await expectClean(file, 'qcow2')
    const model = new Uint8Array(4 << 20).fill(5, 0, 2 << 20).fill(6, 3 << 20, (3 << 20) + 65536)
    expect(await guestSha(file, 'qcow2')).toBe(bytesSha(model))
  })

  it('an image with a feature, extension and header bytes nobody knows keeps them', async () => {
    const file = folder.fresh('.qcow2')
    const extension = { type: 0x4d4f5241, data: new TextEncoder().encode('thirteen byte') }
    const image = buildQcow2({
      extensions: [extension],
      headerLength: 128,
      compatible: 1n << 40n,
      autoclear: 1n << 41n,
    })
    image.bytes.fill(0xab, 112, 128)
    image.save(file)
    await withWritable(file, 'qcow2', async (disk) => {
      await disk.write(0, new Uint8Array(65536).fill(1))
      await disk.resize(3 << 20)
      await disk.snapshots?.create('one')
    })
    const bytes = readFileSync(file)
    expect(bytes.readUInt32BE(100)).toBe(128)
    expect(bytes.subarray(112, 128).every((byte) => byte === 0xab)).toBe(true)
    expect(bytes.readBigUInt64BE(80)).toBe(1n << 40n)
    // A writer clears the autoclear bits it does not know.
    expect(bytes.readBigUInt64BE(88)).toBe(0n)
    expect(bytes.indexOf('thirteen byte')).toBeGreaterThan(128)
    await expectClean(file, 'qcow2')
  })
})
