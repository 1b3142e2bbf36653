/** Persistent bitmaps while the engine writes: each enabled one has exactly the bits that QEMU sets for the same writes, disabled ones stay,
 *  and what holds them is sound. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { openWritable, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { expectClean, qemuImg, qemuIo, qemuIoKilled } from '../support/qemu.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { expectSameCheck, expectSameInfo } from './oracle.ts'
import { readBitmaps } from './stored-bitmaps.ts'

const folder = temporaryFolder()

async function make(size: number, cluster: string): Promise<string> {
  const file = folder.fresh('.qcow2')
  await qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${cluster}`, file, `${size}`)
  await qemuImg('bitmap', '--add', file, 'usual')
  await qemuImg('bitmap', '--add', '-g', '512', file, 'fine')
  await qemuImg('bitmap', '--add', '-g', '1M', file, 'coarse')
  await qemuImg('bitmap', '--add', '--disable', '-g', '4k', file, 'off')
  await qemuIo(file, 'qcow2', 'write -P 1 64k 100k')
  return file
}

describeWith(['qemu-img', 'qemu-io'], 'bitmaps of qcow2 images', () => {
  const runSeed = seed('bitmaps')

  it(
    'have the bits that QEMU sets for the same writes',
    async () => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(6000)
      do {
        const size = random.pick([4 << 20, (3 << 20) + 512, 700 * 512])
        const theirs = await make(size, random.pick(['512', '4k', '64k']))
        const ours = folder.fresh('.qcow2')
        copyFileSync(theirs, ours)
        const lines: string[] = []
        let disk = await openWritable(ours, 'qcow2')
        for (let i = 0; i < 8; i++) {
          const at = random.int(0, size / 512 - 1) * 512
          const length = Math.min(512 * random.int(1, 300), size - at)
          const kind = random.int(0, 3)
          if (kind < 2) {
            lines.push(`write -P ${i + 1} ${at} ${length}`)
            await disk.write(at, new Uint8Array(length).fill(i + 1))
          } else if (kind === 2) {
            lines.push(`write -z ${at} ${length}`)
            await disk.zero(at, length, 'allocate')
          } else {
            lines.push(`discard ${at} ${length}`)
            await disk.discard(at, length)
          }
          if (random.bool(0.3)) {
            await disk.close()
            disk = await openWritable(ours, 'qcow2')
          }
        }
        await disk.close()
        await qemuIo(theirs, 'qcow2', ...lines)
        expect(readBitmaps(ours, size), `MORAINE_SEED=${runSeed}: ${lines.join('; ')}`).toEqual(
          readBitmaps(theirs, size),
        )
        await expectClean(ours, 'qcow2')
        await expectSameInfo(ours)
        await expectSameCheck(ours)
      } while (Date.now() < end)
    },
    timeFor(6000),
  )

  it('opening for reading, or for writing without a write, changes nothing', async () => {
    const file = await make(4 << 20, '64k')
    const before = readFileSync(file)
    await withImage(file, 'qcow2', async (disk) => disk.read(0, new Uint8Array(512)))
    expect(Buffer.compare(readFileSync(file), before)).toBe(0)
    await withWritable(file, 'qcow2', async () => {})
    expect(readBitmaps(file, 4 << 20)).toEqual(readBitmaps(copyOf(before), 4 << 20))
    await expectClean(file, 'qcow2')
  })

  it('are marked as in use while a writer lives, so that a crash leaves none that lies', async () => {
    const file = await make(4 << 20, '64k')
    const disk = await openWritable(file, 'qcow2')
    await disk.write(0, new Uint8Array(65536).fill(9))
    await disk.flush()
    const crashed = copyOf(readFileSync(file))
    await disk.close()
    // The disabled one has not changed and may be trusted.
    for (const [name, { flags }] of Object.entries(readBitmaps(crashed, 4 << 20))) {
      expect(flags & 1, name).toBe(name === 'off' ? flags & 1 : 1)
    }
    await expectSameInfo(crashed)
    for (const { flags } of Object.values(readBitmaps(file, 4 << 20))) expect(flags & 1).toBe(0)
  })

  it('that were in use stay so: nobody knows what they missed', async () => {
    const file = await make(4 << 20, '64k')
    await qemuIoKilled(file, 'qcow2', 'write -P 1 0 64k')
    const marked = Object.entries(readBitmaps(file, 4 << 20)).filter(([, { flags }]) => (flags & 1) === 1)
    expect(marked.length).toBeGreaterThan(0)
    await withWritable(file, 'qcow2', (disk) => disk.write(1 << 20, new Uint8Array(65536).fill(5)))
    const after = readBitmaps(file, 4 << 20)
    for (const [name] of marked) expect((after[name]?.flags ?? 0) & 1, name).toBe(1)
    await expectClean(file, 'qcow2')
    await expectSameInfo(file)
    await expect(withWritable(file, 'qcow2', (disk) => disk.resize(8 << 20))).rejects.toMatchObject({
      kind: 'unsupported',
    })
  })

  it('follow a change of size', async () => {
    const theirs = await make(4 << 20, '64k')
    const ours = copyOf(readFileSync(theirs))
    await qemuImg('resize', '-q', theirs, '6M')
    await withWritable(ours, 'qcow2', (disk) => disk.resize(6 << 20))
    expect(readBitmaps(ours, 6 << 20)).toEqual(readBitmaps(theirs, 6 << 20))
    await expectClean(ours, 'qcow2')
    await qemuIo(theirs, 'qcow2', 'write -P 3 5M 300k')
    await withWritable(ours, 'qcow2', (disk) => disk.write(5 << 20, new Uint8Array(300 << 10).fill(3)))
    expect(readBitmaps(ours, 6 << 20)).toEqual(readBitmaps(theirs, 6 << 20))
    await expectClean(ours, 'qcow2')
  })
})

function copyOf(bytes: Uint8Array): string {
  const file = folder.fresh('.qcow2')
  writeFileSync(file, bytes)
  return file
}
