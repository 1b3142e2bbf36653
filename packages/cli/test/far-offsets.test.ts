/** Tables that point past 2^53, where JavaScript's numbers end to be exact: every digit is qemu-img's. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { Fixtures, ourQemuImg, words } from './support/differential.ts'

const copied = 1n << 63n
const packed = 1n << 62n
const aligned = [0x00ff_ffff_ffff_0000n, (1n << 53n) | 0x10000n, (1n << 55n) | 0x1_2345_0000n]
const unaligned = [0x00ff_ffff_ffff_fe00n, (1n << 53n) | 0x10200n]

/** Where an entry stands in the image, found when it is there. */
type Place = 'l1' | 'l2' | 'refcount table'

const far: [place: Place, entry: bigint][] = [
  ...[...aligned, ...unaligned].flatMap((offset): [Place, bigint][] => [
    ['l1', offset | copied],
    ['l2', offset | copied],
  ]),
  ['l1', (1n << 53n) | 0x10000n],
  ['l2', (1n << 53n) | 0x10000n],
  ['l2', packed | ((1n << 54n) - 1n)],
  ['l2', packed | (1n << 53n)],
  ['refcount table', 0xffff_ffff_ffff_0000n],
  ['refcount table', 0xffff_ffff_ffff_fe00n],
  ['refcount table', (1n << 53n) | 0x10000n],
]

describeWith(['qemu-img', 'qemu-io'], 'offsets past 2^53', () => {
  const fixtures = new Fixtures()
  const places: Record<Place, number> = { l1: 0, l2: 0, 'refcount table': 0 }

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow2 plain.qcow2 1M')
    await fixtures.qemuIo('plain.qcow2', 'write -P 1 0 128k')
    const bytes = readFileSync(fixtures.path('plain.qcow2'))
    places.l1 = Number(bytes.readBigUInt64BE(40))
    places.l2 = Number(bytes.readBigUInt64BE(places.l1) & 0x00ff_ffff_ffff_fe00n)
    places['refcount table'] = Number(bytes.readBigUInt64BE(48))
  })

  it.each(far.map(([place, entry]) => [place, `0x${entry.toString(16)}`, entry] as const))(
    '%s entry %s',
    async (place, _hex, entry) => {
      const path = fixtures.path('far.qcow2')
      copyFileSync(fixtures.path('plain.qcow2'), path)
      const bytes = readFileSync(path)
      bytes.writeBigUInt64BE(entry, places[place])
      writeFileSync(path, bytes)
      const lines = ['info far.qcow2', 'check far.qcow2', 'check --output=json far.qcow2']
      // The error of a table that is not aligned is worded otherwise.
      if (aligned.includes(entry & ~copied))
        lines.push('map far.qcow2', 'map --output=json far.qcow2', 'convert -O raw far.qcow2 x')
      for (const line of lines) {
        const theirs = await run(tool('qemu-img').path ?? '', words(line), { cwd: fixtures.folder })
        const ours = await run(ourQemuImg, words(line), { cwd: fixtures.folder })
        expect([ours.code, ours.stdout, ours.stderr], line).toEqual([theirs.code, theirs.stdout, theirs.stderr])
      }
    },
  )

  it('the error of a table that is not aligned names it', async () => {
    const path = fixtures.path('far.qcow2')
    const bytes = readFileSync(fixtures.path('plain.qcow2'))
    bytes.writeBigUInt64BE(0x00ff_ffff_ffff_fe00n | copied, places.l1)
    writeFileSync(path, bytes)
    const { stderr } = await run(ourQemuImg, ['map', path])
    expect(stderr).toContain('L2 table offset 0xfffffffffffe00 unaligned (L1 index: 0)')
  })

  it('nothing is written there', async () => {
    const path = fixtures.path('far.qcow2')
    for (const place of ['l1', 'l2'] as const) {
      const bytes = readFileSync(fixtures.path('plain.qcow2'))
      bytes.writeBigUInt64BE((1n << 53n) | 0x10000n | copied, places[place])
      writeFileSync(path, bytes)
      const { code, stderr } = await run(ourQemuImg, words('convert -n -O qcow2 plain.qcow2 far.qcow2'), {
        cwd: fixtures.folder,
      })
      expect(code).toBe(1)
      expect(stderr).toContain('offset 0x20000000010000 is past what a file can have')
    }
  })
})
