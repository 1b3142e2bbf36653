/** Growing a disk that stands over another: the one below stays hidden where it was, and shows where it did. */
import { expect, it } from 'vitest'
import { createFile, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'

const folder = temporaryFolder()
const MiB = 1 << 20

it.each([
  ['qcow', 'raw', 3 * MiB + 1024],
  ['qcow', 'raw', 5 * MiB],
  ['vdi', 'vdi', 5 * MiB],
  ['vhdx', 'vhdx', 5 * MiB],
  ['vmdk', 'vmdk', 3 * MiB + 1024],
])('%s over %s, %i bytes of 5 MiB', async (format, below, size) => {
  const base = folder.fresh(`.${below}`)
  const over = folder.fresh(`.${format}`)
  await createFile(base, below, 5 * MiB)
  await withWritable(base, below, (disk) => disk.write(0, new Uint8Array(5 * MiB).fill(8)))
  await createFile(over, format, size, '', { name: base, format: below })
  await withWritable(over, format, async (disk) => {
    await disk.write(MiB, new Uint8Array(512).fill(3))
    await disk.resize(9 * MiB)
    await disk.write(9 * MiB - 512, new Uint8Array(512).fill(4))
  })
  const wanted = new Uint8Array(9 * MiB).fill(8, 0, size)
  wanted.fill(3, MiB, MiB + 512).fill(4, 9 * MiB - 512)
  const bytes = await withImage(over, format, async (disk) => {
    const all = new Uint8Array(disk.size)
    await disk.read(0, all)
    return all
  })
  expect(bytes.length).toBe(wanted.length)
  expect(Buffer.compare(bytes, wanted)).toBe(0)
})

it('vhd over vhd is refused: it is as large as its parent', async () => {
  const base = folder.fresh('.vhd')
  const over = folder.fresh('.vhd')
  await createFile(base, 'vhd', 5 * MiB, 'force_size=on')
  await createFile(over, 'vhd', 5 * MiB, '', { name: base, format: 'vhd' })
  await withWritable(over, 'vhd', async (disk) => {
    await expect(disk.resize(9 * MiB)).rejects.toMatchObject({ kind: 'unsupported', format: 'vhd' })
  })
})
