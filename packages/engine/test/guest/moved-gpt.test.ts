/** A GPT at the end of a longer disk: what is written where, and what is left as it is. The command's test compares whole disks with sgdisk's. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { MemoryStore, moveGptEnd } from '@moraine/engine'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, run, runOk, tool } from '../support/process.ts'

const MiB = 1 << 20
const path = (name: string): string => tool(name).path ?? ''

/** The disk of `size` bytes that comes of one. */
async function moved(bytes: Uint8Array, size: number): Promise<Uint8Array> {
  const move = await moveGptEnd(MemoryStore.from(bytes), size)
  if (move === undefined || !('patches' in move)) throw new Error(`it stays: ${move?.reason}`)
  const longer = new Uint8Array(size)
  longer.set(bytes)
  for (const { offset, bytes: patch } of move.patches) longer.set(patch, offset)
  return longer
}

/** A disk of sectors of 4096 bytes, which the tools do not take for one when it is a file: a table without partitions. */
function largeSectors(sectors: number, lastUsable = sectors - 6): Uint8Array {
  const bytes = new Uint8Array(sectors * 4096)
  const view = new DataView(bytes.buffer)
  const last = sectors - 1
  bytes.set([0x55, 0xaa], 510)
  bytes[446 + 4] = 0xee
  view.setUint32(446 + 8, 1, true)
  view.setUint32(446 + 12, last, true)
  for (const [own, other, entries] of [
    [1, last, 2],
    [last, 1, last - 4],
  ] as const) {
    const at = own * 4096
    bytes.set(Buffer.from('EFI PART\0\0\x01\0', 'latin1'), at)
    view.setUint32(at + 12, 92, true)
    for (const [field, value] of [
      [24, own],
      [32, other],
      [40, 6],
      [48, lastUsable],
      [72, entries],
    ] as const) {
      view.setBigUint64(at + field, BigInt(value), true)
    }
    bytes.fill(7, at + 56, at + 72)
    view.setUint32(at + 80, 128, true)
    view.setUint32(at + 84, 128, true)
    view.setUint32(at + 88, crc32(new Uint8Array(128 * 128)), true)
    view.setUint32(at + 16, crc32(bytes.subarray(at, at + 92)), true)
  }
  return bytes
}

it('moves a GPT of sectors of 4096 bytes', async () => {
  expect(Buffer.compare(await moved(largeSectors(100), 256 * 4096), largeSectorsMoved(100, 256))).toBe(0)
  expect(await moveGptEnd(MemoryStore.from(largeSectors(100)), 100 * 4096 + 512)).toEqual({
    reason: 'the new size is no whole number of its sectors of 4096 bytes',
  })
})

it('leaves a GPT as it is where the copy of its entries would stand on what partitions may have', async () => {
  const reason = 'its partitions may reach to where the second copy of its entries would stand'
  // The last four sectors before the last one of the longer disk are wanted.
  expect(await moveGptEnd(MemoryStore.from(largeSectors(100, 97)), 101 * 4096)).toEqual({ reason })
  expect(await moveGptEnd(MemoryStore.from(largeSectors(100, 95)), 101 * 4096)).toHaveProperty('patches')
  expect(await moveGptEnd(MemoryStore.from(largeSectors(100, 96)), 101 * 4096)).toEqual({ reason })
})

/** A table made for the longer disk, with what stays of the old end. */
function largeSectorsMoved(before: number, after: number): Uint8Array {
  const bytes = largeSectors(after)
  bytes.set(largeSectors(before).subarray((before - 1) * 4096), (before - 1) * 4096)
  return bytes
}

describeWith(['sfdisk', 'sgdisk'], 'a GPT whose disk gets longer', () => {
  const folder = temporaryFolder()

  async function disk(): Promise<Uint8Array> {
    const file = folder.fresh('.raw')
    writeFileSync(file, '')
    truncateSync(file, 4 * MiB + 3 * 4096)
    await runOk(path('sfdisk'), ['-q', file], { input: 'label: gpt\nsize=1MiB\nsize=1MiB\n' })
    return new Uint8Array(readFileSync(file))
  }

  it('moves it', async () => {
    const bytes = await disk()
    for (const size of [bytes.length + 512, bytes.length + 7 * 512, 5 * MiB, 64 * MiB]) {
      const file = folder.file('longer.raw')
      writeFileSync(file, await moved(bytes, size))
      const verified = await run(path('sfdisk'), ['--verify', file])
      expect([verified.code, verified.stderr], verified.stdout).toEqual([0, ''])
      expect(verified.stdout).toContain('No errors detected.')
      expect(await runOk(path('sgdisk'), ['-v', file])).toContain('No problems found.')
    }
  })

  it.each<[string, string, (bytes: Uint8Array) => Uint8Array]>([
    ['a damaged first header', 'its first header is damaged', (bytes) => bytes.fill(9, 512 + 40, 512 + 41)],
    [
      'a damaged second header',
      'its second header is damaged',
      (bytes) => bytes.fill(9, bytes.length - 512 + 40, -470),
    ],
    ['no second header', 'its second header is missing', (bytes) => bytes.fill(0, bytes.length - 512)],
    ['damaged entries', 'its entries are damaged', (bytes) => bytes.fill(9, 1024 + 60, 1024 + 61)],
    [
      'damaged entries at the end',
      'its entries are damaged',
      (bytes) => bytes.fill(9, bytes.length - 33 * 512 + 60, bytes.length - 33 * 512 + 61),
    ],
    [
      'a second header before the end',
      'its second header is not at the end of the disk',
      (bytes) => new Uint8Array(Buffer.concat([bytes, new Uint8Array(512)])),
    ],
    [
      'a disk that was cut',
      'its second header is not at the end of the disk',
      (bytes) => bytes.slice(0, bytes.length - 100),
    ],
    ['a disk of two sectors', 'its first header is damaged', (bytes) => bytes.slice(0, 600)],
  ])('leaves it as it is: %s', async (_name, reason, edit) => {
    const bytes = edit(await disk())
    expect(await moveGptEnd(MemoryStore.from(bytes), 8 * MiB)).toEqual({ reason })
  })

  it('finds none on other disks', async () => {
    expect(await moveGptEnd(MemoryStore.from(new Uint8Array(70_000)), 8 * MiB)).toBeUndefined()
    expect(await moveGptEnd(new MemoryStore(), 8 * MiB)).toBeUndefined()
  })
})
