/** `map` against qemu-img, entry by entry. */
import { expect, it } from 'vitest'
import { type MapEntry, mapDisk } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg, qemuIo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { openForReading, randomPieces, writeSparse } from './support.ts'

const folder = temporaryFolder()

/** All entries, without the file names that `qemu-img map --output=json` does not print. */
async function mapped(path: string, format: string, range: { start?: number; length?: number } = {}) {
  const disk = await openForReading(path, format)
  const entries: MapEntry[] = []
  try {
    for await (const batch of mapDisk(disk, range)) entries.push(...batch)
  } finally {
    await disk.close()
  }
  return entries.map(({ filename: _filename, ...entry }) => entry)
}

async function theirs(path: string, format: string, ...options: string[]): Promise<unknown> {
  return JSON.parse(await qemuImg('map', '--output=json', '-f', format, ...options, path))
}

describeWith(['qemu-img'], 'mapDisk', () => {
  it('maps raw files with holes, of any length, as qemu-img does', async () => {
    const random = new Random(seed('map raw'))
    for (let round = 0; round < 8; round++) {
      const path = folder.fresh('.raw')
      const size = random.int(1, 8 * 1024 * 1024)
      writeSparse(path, size, randomPieces(random, size, random.int(0, 10), 500_000))
      expect(await mapped(path, 'raw')).toEqual(await theirs(path, 'raw'))
      const start = random.int(0, size - 1)
      const length = random.int(1, size)
      expect(await mapped(path, 'raw', { start, length })).toEqual(
        await theirs(path, 'raw', '-s', `${start}`, '-l', `${length}`),
      )
    }
  })

  it.each([
    'cluster_size=64k',
    'cluster_size=512',
    'cluster_size=16k,extended_l2=on',
    'compat=0.10',
    'preallocation=metadata',
    'preallocation=falloc,cluster_size=2M',
  ])('maps qcow2 with %s as qemu-img does', async (options) => {
    const random = new Random(seed(`map ${options}`))
    for (let round = 0; round < 3; round++) {
      const path = folder.fresh('.qcow2')
      await qemuImg('create', '-f', 'qcow2', '-o', options, path, `${random.int(1, 40_000)}k`)
      await scribble(random, path, 20)
      expect(await mapped(path, 'qcow2')).toEqual(await theirs(path, 'qcow2'))
    }
  })

  it('maps chains of packed, raw and overlaid images as qemu-img does', async () => {
    const random = new Random(seed('map chain'))
    for (let round = 0; round < 3; round++) {
      const bottom = folder.fresh('.raw')
      const middle = folder.fresh('.qcow2')
      const top = folder.fresh('.qcow2')
      const size = random.int(1, 6 * 1024 * 1024)
      writeSparse(bottom, size, randomPieces(random, size, 6, 500_000))
      await qemuImg('create', '-f', 'qcow2', '-b', bottom, '-F', 'raw', middle, '4M')
      await scribble(random, middle, 8)
      const packed = folder.fresh('.qcow2')
      await qemuImg('convert', '-c', '-O', 'qcow2', '-B', bottom, '-F', 'raw', middle, packed)
      await qemuImg('create', '-f', 'qcow2', '-o', 'cluster_size=4k', '-b', packed, '-F', 'qcow2', top, '12M')
      await scribble(random, top, 12)
      for (const path of [middle, packed, top]) {
        expect(await mapped(path, 'qcow2')).toEqual(await theirs(path, 'qcow2'))
        const start = random.int(0, 4_000_000)
        const length = random.int(1, 3_000_000)
        expect(await mapped(path, 'qcow2', { start, length })).toEqual(
          await theirs(path, 'qcow2', '-s', `${start}`, '-l', `${length}`),
        )
      }
    }
  })

  it('says nothing of an empty disk', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 0, [])
    expect(await mapped(path, 'raw')).toEqual([])
    expect(await mapped(path, 'raw', { start: 512, length: 512 })).toEqual([])
  })
})

/** Writes, zeros and discards at places of all kinds. */
async function scribble(random: Random, path: string, count: number): Promise<void> {
  const disk = await openForReading(path, 'qcow2')
  const { size } = disk
  await disk.close()
  const lines: string[] = []
  for (let i = 0; i < count; i++) {
    const at = random.int(0, Math.max(0, Math.floor(size / 1024) - 1)) * 1024
    const length = Math.min(size - at, random.pick([1024, 4096, 65_536, 300_032]))
    if (length <= 0) continue
    lines.push(`${random.pick(['write -P 1', 'write -P 2', 'write -z', 'write -z -u', 'discard'])} ${at} ${length}`)
  }
  await qemuIo(path, 'qcow2', ...lines)
}
