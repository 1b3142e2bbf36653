/** VMDK and QEMU, both ways. */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { testAgainstQemu } from '../support/block-oracle.ts'
import { createFile } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { masked, subject } from './subject.ts'

testAgainstQemu(subject, masked)

const folder = temporaryFolder()

describeWith(['qemu-img'], 'new vmdk images', () => {
  it.each(
    [0, 1, 512, 65_536, 65_537, 33_554_432, 33_554_944, 2 ** 31, 2 ** 31 + 512, 5 * 2 ** 30].flatMap((size) =>
      [
        '',
        'zeroed_grain=on,compat6=on',
        'subformat=monolithicFlat,adapter_type=buslogic',
        'subformat=twoGbMaxExtentSparse,hwversion=10',
        'subformat=twoGbMaxExtentFlat,toolsversion=9',
        'subformat=streamOptimized,adapter_type=legacyESX',
      ].map((options) => [size, options] as const),
    ),
  )('of %i bytes with %s have the files and bytes that qemu-img gives them', async (size, options) => {
    // Names of one length: they stand in descriptors.
    const ours = folder.file('ours.vmdk')
    const theirs = folder.file('them.vmdk')
    await qemuImg('create', '-q', '-f', 'vmdk', ...(options === '' ? [] : ['-o', options]), theirs, `${size}`)
    await createFile(ours, 'vmdk', size, options)
    const filesOf = (path: string) => {
      const stem = basename(path, '.vmdk')
      const names = readdirSync(dirname(path)).filter((name) => name.startsWith(`${stem}-`) || name === `${stem}.vmdk`)
      return names.sort().map((name) => {
        const file = join(dirname(path), name)
        const bytes = statSync(file).size > 1 << 20 ? statSync(file).size : unnamed(masked(readFileSync(file)), stem)
        return { name: name.slice(stem.length), bytes }
      })
    }
    const files = filesOf(ours)
    expect(files).toEqual(filesOf(theirs))
    for (const path of [ours, theirs]) {
      const stem = basename(path, '.vmdk')
      for (const { name } of files) rmSync(join(dirname(path), stem + name))
    }
  })
})

/** The names in descriptors are those of the files. */
function unnamed(bytes: Uint8Array, stem: string): string {
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1
  const text = Buffer.from(bytes.subarray(0, end)).toString('latin1')
  return text.replaceAll(new RegExp(`"${stem}(?=[-.])`, 'g'), '"')
}
