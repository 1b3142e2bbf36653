/** Discs, read as themselves: their facts, and their bytes. */
import { readFileSync, writeFileSync } from 'node:fs'
import { allFormats, inspectSource, MemoryStore, openDisk, probeFormats } from '@moraine/engine'
import { expect, it } from 'vitest'
import { iso as disc } from '../inspect/images.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'

const folder = temporaryFolder()

describeWith(['qemu-img'], 'iso', () => {
  it('is known, tells its volume, and is its own bytes', async () => {
    const bytes = disc()
    const disk = await openDisk(MemoryStore.from(bytes, 'a.iso'), { formats: allFormats })
    expect(disk.info()).toMatchObject({
      format: 'iso',
      virtualSize: bytes.length,
      details: {
        type: 'iso',
        data: { 'file-systems': 'iso9660', volume: 'CONFIG-2', 'block-size': 2048, joliet: false, bootable: false },
      },
    })
    const seen = new Uint8Array(disk.size)
    await disk.read(0, seen)
    expect(Buffer.compare(seen, bytes)).toBe(0)
    const { findings } = await inspectSource(MemoryStore.from(bytes))
    expect(findings[0]).toMatchObject({
      format: 'iso',
      subformat: 'iso9660',
      facts: { volume: 'CONFIG-2' },
    })
    const error = await openDisk(MemoryStore.from(bytes), { formats: allFormats, mode: 'write' }).then(
      (opened) => 'write' in opened,
    )
    expect(error).toBe(false)
  })

  it('comes after an image that holds it', async () => {
    const file = folder.fresh('.iso')
    writeFileSync(file, disc())
    for (const [format, options] of [
      ['vpc', 'subformat=fixed,force_size=on'],
      ['qcow2', 'compat=1.1'],
    ] as const) {
      const image = folder.fresh()
      await qemuImg('convert', '-f', 'raw', '-O', format, '-o', options, file, image)
      const [best] = await probeFormats(MemoryStore.from(readFileSync(image)), allFormats)
      expect(best?.format.name).toBe(format === 'vpc' ? 'vhd' : format)
    }
  })
})
