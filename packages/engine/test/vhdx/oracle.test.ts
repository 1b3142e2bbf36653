/** VHDX and QEMU, both ways. */
import { closeSync, openSync, readSync, rmSync, statSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { createFile, kindOf } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()

/** The first bytes of a file. */
function headOf(file: string, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(length, statSync(file).size))
  const descriptor = openSync(file, 'r')
  readSync(descriptor, bytes, 0, bytes.length, 0)
  closeSync(descriptor)
  return bytes
}

describeWith(['qemu-img'], 'new vhdx images', () => {
  const sizes = [0, 1, 512, (8 << 20) - 1, 1 << 30, 2 ** 30 + 1, 100 * 2 ** 30, 101 * 2 ** 30, 33 * 2 ** 40, 2 ** 46]
  const options = ['log_size=1M', 'block_state_zero=off', 'block_size=2000000,log_size=5000000']
  it.each(sizes.flatMap((size) => options.map((option) => [size, option] as const)))(
    'of %i bytes with %s have the bytes that qemu-img gives them',
    async (size, option) => {
      const ours = folder.fresh('.vhdx')
      const theirs = folder.fresh('.vhdx')
      await qemuImg('create', '-q', '-f', 'vhdx', '-o', option, theirs, `${size}`)
      await createFile(ours, 'vhdx', size, option)
      expect(statSync(ours).size).toBe(statSync(theirs).size)
      const part = 48 << 20
      expect(Buffer.compare(masked(headOf(ours, part)), masked(headOf(theirs, part)))).toBe(0)
      rmSync(ours)
      rmSync(theirs)
    },
  )

  it('that are fixed have every block in place', async () => {
    const file = folder.fresh('.vhdx')
    await createFile(file, 'vhdx', (20 << 20) + 512, 'subformat=fixed')
    expect(statSync(file).size).toBe((8 + 3 * 8) << 20)
    expect(await qemuImg('check', '-f', 'vhdx', file)).toBe('No errors were found on the image.\n')
  })
})

describe('vhdx options', () => {
  it.each([
    ['subformat=foo', 'invalid'],
    ['block_size=3M', 'invalid'],
    ['log_size=0', 'invalid'],
    ['log_size=4G', 'invalid'],
    ['block_size=1G', 'no error'],
  ])('%s: %s', async (options, kind) => {
    expect(await kindOf(createFile(folder.fresh(), 'vhdx', 1 << 20, options))).toBe(kind)
  })

  it('no more than 64 TiB', async () => {
    expect(await kindOf(createFile(folder.fresh(), 'vhdx', 2 ** 46 + 512))).toBe('invalid')
  })
})
