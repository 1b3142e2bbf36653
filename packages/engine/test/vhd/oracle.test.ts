/** VHD and QEMU, both ways. */
import { readFileSync, rmSync, statSync } from 'node:fs'
import { expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { createFile, kindOf, withImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg, qemuInfo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()
const random = new Random(seed('vhd create'))
const gib = 2 ** 30
const sizes = [
  ...[1, 512, 34_816, 69_632, 1 << 20, 100 << 20, 504 << 20, (504 << 20) + 512, 2 * gib, 8 * gib, 32 * gib, 127 * gib],
  ...[65_535 * 16 * 255 * 512 - 512, 65_535 * 16 * 255 * 512, 65_535 * 16 * 63 * 512, 130 * gib, 2040 * gib],
  ...Array.from({ length: 12 }, () => Math.floor(2 ** (10 + random.next() * 30))),
]

describeWith(['qemu-img'], 'new vhd images', () => {
  it.each(['', 'force_size=on', 'subformat=fixed', 'subformat=fixed,force_size=on'])(
    'with %j have the bytes that qemu-img gives them, at any size',
    async (options) => {
      for (const size of options.includes('fixed') ? sizes.filter((size) => size < 8 * gib) : sizes) {
        const ours = folder.fresh('.vhd')
        const theirs = folder.fresh('.vhd')
        await qemuImg('create', '-q', '-f', 'vpc', ...(options === '' ? [] : ['-o', options]), theirs, `${size}`)
        await createFile(ours, 'vhd', size, options)
        expect(statSync(ours).size, `${size}`).toBe(statSync(theirs).size)
        if (statSync(ours).size < 8 << 20) {
          const same = Buffer.compare(masked(readFileSync(ours)), masked(readFileSync(theirs)))
          expect(same, `${size}: the bytes`).toBe(0)
        }
        const info = await qemuInfo(ours, 'vpc')
        expect(await withImage(theirs, 'vhd', async (disk) => disk.size)).toBe(info['virtual-size'])
        rmSync(ours)
        rmSync(theirs)
      }
    },
  )

  it('are refused past 2040 GiB, and with a subformat that is none', async () => {
    expect(await kindOf(createFile(folder.fresh(), 'vhd', 2041 * gib))).toBe('limit')
    expect(await kindOf(createFile(folder.fresh(), 'vhd', 2041 * gib, 'force_size=on'))).toBe('limit')
    expect(await kindOf(createFile(folder.fresh(), 'vhd', 1 << 20, 'subformat=thin'))).toBe('invalid')
  })
})
