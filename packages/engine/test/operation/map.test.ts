/** `map` against qemu-img, entry by entry. */
import { expect, it } from 'vitest'
import { type MapEntry, mapDisk } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
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

  it('says nothing of an empty disk', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 0, [])
    expect(await mapped(path, 'raw')).toEqual([])
    expect(await mapped(path, 'raw', { start: 512, length: 512 })).toEqual([])
  })
})
