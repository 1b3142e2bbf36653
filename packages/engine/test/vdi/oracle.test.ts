/** VDI and QEMU, both ways. */
import { readFileSync, rmSync, statSync } from 'node:fs'
import { expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { createFile, kindOf } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()

describeWith(['qemu-img'], 'new vdi images', () => {
  it.each(
    [0, 1, 512, 1_048_575, 1 << 20, (1 << 20) + 1, 100 << 20, 127 << 20, 128 << 20, 129 << 20, 2 ** 41 + 512].flatMap(
      (size) => ['static=off', 'static=on'].map((options) => [size, options] as const),
    ),
  )('of %i bytes with %s have the bytes that qemu-img gives them', async (size, options) => {
    const ours = folder.fresh('.vdi')
    const theirs = folder.fresh('.vdi')
    await qemuImg('create', '-q', '-f', 'vdi', '-o', options, theirs, `${size}`)
    await createFile(ours, 'vdi', size, options)
    expect(statSync(ours).size).toBe(statSync(theirs).size)
    if (statSync(ours).size < 64 << 20) {
      expect(Buffer.compare(masked(readFileSync(ours)), masked(readFileSync(theirs)))).toBe(0)
    }
    rmSync(ours)
    rmSync(theirs)
  })

  it('are refused past 512 TiB', async () => {
    const most = 0x1f_ffff_80 * 2 ** 20
    expect(await kindOf(createFile(folder.fresh(), 'vdi', BigInt(most) + 1n))).toBe('invalid')
  })
})
