/** The image builder of these tests against QEMU: what it builds must be sound before it is bent. */
import { writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import { guestOf, type Qcow2Spec } from '../support/qcow2-spec.ts'
import { bytesSha, expectClean, guestSha, qemuInfo } from '../support/qemu.ts'

const folder = temporaryFolder()
const backing = new Uint8Array(1 << 20).fill(0xbb)

const every: Qcow2Spec['clusters'] = {
  0: { kind: 'data', bytes: 0x11 },
  1: { kind: 'compressed', bytes: 0x22 },
  2: { kind: 'compressed', bytes: new Uint8Array(300).fill(0x23) },
  4: { kind: 'zero' },
  5: { kind: 'zero-allocated', bytes: 0x55 },
  9: { kind: 'data', bytes: new TextEncoder().encode('short') },
}
const plainOnly: Qcow2Spec['clusters'] = { 0: { kind: 'data', bytes: 0x11 }, 3: { kind: 'compressed', bytes: 0x33 } }

const rows: [string, Qcow2Spec][] = [
  ['everything at 64 KiB', { clusters: every }],
  ['clusters of 512 bytes', { clusterBits: 9, size: 65536n, clusters: every }],
  ['clusters of 2 MiB', { clusterBits: 21, size: 1n << 25n, clusters: every }],
  ['version 2', { version: 2, clusters: plainOnly }],
  ['zstd', { compression: 'zstd', clusters: every }],
  ...[0, 1, 2, 3, 4, 5, 6].map((order): [string, Qcow2Spec] => [
    `refcounts of ${1 << order} bits`,
    {
      clusterBits: 9,
      size: 65536n,
      refcountOrder: order,
      clusters: order < 3 ? { 0: { kind: 'data', bytes: 1 } } : every,
    },
  ]),
  ['over a backing file', { backing: { name: 'backing.raw', format: 'raw' }, clusters: every }],
  [
    'extended L2',
    {
      extendedL2: true,
      backing: { name: 'backing.raw', format: 'raw' },
      clusters: {
        0: { kind: 'data', bytes: 0x11 },
        1: { kind: 'subclusters', bytes: 0x22, alloc: 0xf0, zero: 0x0f00 },
        2: { kind: 'subclusters', alloc: 0, zero: 0x8000_0001 },
        3: { kind: 'compressed', bytes: 0x33 },
        4: { kind: 'zero' },
        5: { kind: 'zero-allocated', bytes: 0x44 },
      },
    },
  ],
  ['a shared snapshot', { clusters: every, snapshots: [{ id: '1', name: 'one', clusters: 'share' }] }],
  [
    'snapshots of their own',
    {
      clusters: every,
      snapshots: [
        { id: '1', name: 'one', clusters: { 0: { kind: 'data', bytes: 0x77 } } },
        { id: '2', name: 'two', clusters: {} },
      ],
    },
  ],
  [
    'bitmaps',
    {
      clusters: every,
      bitmaps: [
        { name: 'a', granularityBits: 16, flags: 2, table: [new Uint8Array([0xff, 0x0f])] },
        { name: 'b', granularityBits: 9, flags: 0, table: ['ones'] },
      ],
    },
  ],
  ['an unknown extension', { clusters: every, extensions: [{ type: 0x1234, data: new Uint8Array(13).fill(7) }] }],
  ['a header of 128 bytes', { clusters: every, headerLength: 128 }],
  ['an empty disk', { size: 0n }],
  ['an L1 longer than needed', { clusters: every, l1Size: 40 }],
]

describeWith(['qemu-img'], 'qcow2 images that the tests build', () => {
  it.each(rows)('%s: clean and readable for qemu-img', async (_name, spec) => {
    writeFileSync(folder.file('backing.raw'), backing)
    const file = folder.fresh('.qcow2')
    const image = buildQcow2(spec)
    image.save(file)
    await expectClean(file, 'qcow2')
    const under = spec.backing === undefined ? undefined : backing
    expect(await guestSha(file, 'qcow2')).toBe(bytesSha(guestOf(spec, under)))
    if (spec.bitmaps !== undefined) {
      const info = (await qemuInfo(file, 'qcow2')) as { 'format-specific': { data: { bitmaps: { name: string }[] } } }
      expect(info['format-specific'].data.bitmaps.map(({ name }) => name)).toEqual(spec.bitmaps.map(({ name }) => name))
    }
  })

  it('an external data file', async () => {
    const data = folder.fresh('.data')
    const file = folder.fresh('.qcow2')
    const spec: Qcow2Spec = {
      dataFile: { name: data },
      clusters: { 0: { kind: 'data', bytes: 1 }, 3: { kind: 'data', bytes: 3 }, 5: { kind: 'zero' } },
    }
    buildQcow2(spec).save(file, data)
    await expectClean(file, 'qcow2')
    expect(await guestSha(file, 'qcow2')).toBe(bytesSha(guestOf(spec)))
  })
})
