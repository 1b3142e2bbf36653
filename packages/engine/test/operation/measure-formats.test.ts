/** `measure` of every format that is written: the file is as large as was said, empty, with some data, and full. */
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { measureImage, planConversion } from '@moraine/engine'
import { expect, it } from 'vitest'
import { createFile, formatOf, optionsOf, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Random, seed } from '../support/random.ts'

const folder = temporaryFolder()

const kinds: readonly [format: string, options: string, exact?: 'at most'][] = [
  ['raw', ''],
  ['vdi', ''],
  ['vdi', 'static=on'],
  ['vhd', ''],
  ['vhd', 'force_size=on'],
  ['vhd', 'subformat=fixed'],
  ['vhd', 'subformat=fixed,force_size=on'],
  ['vhdx', ''],
  ['vhdx', 'subformat=fixed'],
  ['vhdx', 'block_size=1M,log_size=2M'],
  ['vmdk', ''],
  ['vmdk', 'zeroed_grain=on'],
  ['vmdk', 'subformat=monolithicFlat', 'at most'],
  ['vmdk', 'subformat=twoGbMaxExtentSparse', 'at most'],
  ['vmdk', 'subformat=twoGbMaxExtentFlat', 'at most'],
  ['vmdk', 'subformat=streamOptimized', 'at most'],
  ['parallels', ''],
  ['parallels', 'cluster_size=64k'],
  ['qcow', ''],
  ['qed', ''],
  ['qed', 'cluster_size=4k,table_size=1'],
]

/** Bytes of all files that a conversion of a raw file writes. */
async function converted(format: string, options: string, raw: string, size: number): Promise<number> {
  const own = folder.fresh()
  mkdirSync(own)
  const file = join(own, `a.${format}`)
  await createFile(file, format, size, options)
  await withImage(raw, 'raw', async (source) => {
    const plan = await planConversion(source, { format: formatOf(format), options: optionsOf(format, options) })
    await withWritable(file, format, (disk) => plan.run(disk))
  })
  const bytes = readdirSync(own).reduce((sum, name) => sum + statSync(join(own, name)).size, 0)
  rmSync(own, { recursive: true })
  return bytes
}

it.each(kinds)('%s %s', async (format, options, bound) => {
  const random = new Random(seed(`measure ${format} ${options}`))
  const size = random.int(3, 9) * (1 << 20) + 512 * random.int(0, 100)
  const raw = folder.fresh('.raw')
  const some = new Uint8Array(size)
  for (let i = 0; i < 3; i++) {
    const at = random.int(0, size - 1)
    some.fill(7, at, Math.min(size, at + random.int(1, 400_000)))
  }
  for (const content of [new Uint8Array(size), some, new Uint8Array(size).fill(9)]) {
    // A file with holes: what is data in it is what the file says.
    writeFileSync(raw, '')
    await withWritable(raw, 'raw', async (disk) => {
      await disk.resize(size)
      for (let at = 0; at < size; at += 4096) {
        const part = content.subarray(at, at + 4096)
        if (part.some((byte) => byte !== 0)) await disk.write(at, part)
      }
    })
    const request = { size: 0, options: optionsOf(format, options) }
    const measure = await withImage(raw, 'raw', (source) => measureImage(formatOf(format), { ...request, source }))
    const bytes = await converted(format, options, raw, size)
    if (bound === 'at most') {
      expect(measure.required).toBeGreaterThanOrEqual(bytes)
      const content = options.includes('Optimized') ? Number.POSITIVE_INFINITY : bytes + 4096
      expect(measure.required).toBeLessThan(content)
    } else expect(measure.required, `${size}`).toBe(bytes)
    if (content[0] === 9 && bound === undefined) expect(measure.fullyAllocated).toBe(bytes)
    const empty = await measureImage(formatOf(format), { ...request, size })
    expect(empty.fullyAllocated).toBe(measure.fullyAllocated)
    expect(empty.required).toBeLessThanOrEqual(measure.required)
  }
})
