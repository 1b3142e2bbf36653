/** Check and repair of images that qemu-img and qemu-io made, over cluster sizes, widths and features: sound, then with counts that a byte
 *  patch made wrong. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg, qemuIo } from '../support/qemu.ts'
import { type Random, sample, seed, timeFor } from '../support/random.ts'
import { expectSameVerdict, ourCheck, type Parting } from './verdict.ts'

const folder = temporaryFolder()

interface Made {
  options: string
  /** Bytes of the disk. */
  size: string
  writes: string[]
  snapshots: number
  bitmaps: number
}

const some = ['write -P 1 0 100k', 'write -P 2 300k 64k', 'write -z 500k 128k', 'discard 20k 40k']

const images: Made[] = [
  ...['512', '4k', '64k', '2M'].flatMap((cluster) =>
    ['1', '2', '4', '8', '16', '32', '64'].map((width): Made => {
      // A cluster that a snapshot shares is counted 2, which one bit does not hold.
      const snapshots = width === '1' ? 0 : 2
      return {
        options: `cluster_size=${cluster},refcount_bits=${width}`,
        size: '1M',
        writes: some,
        snapshots,
        bitmaps: 0,
      }
    }),
  ),
  ...['zlib', 'zstd'].flatMap((codec) =>
    ['512', '64k', '2M'].map(
      (cluster): Made => ({
        options: `cluster_size=${cluster},compression_type=${codec}`,
        size: '5M',
        writes: ['write -c -P 7 0 2M', 'write -c -P 9 2M 2M', 'write -P 3 2M 70k'],
        snapshots: 1,
        bitmaps: 0,
      }),
    ),
  ),
  ...['16k', '64k', '2M'].map(
    (cluster): Made => ({
      options: `cluster_size=${cluster},extended_l2=on`,
      size: '5M',
      writes: ['write -P 1 4k 4k', 'write -P 2 300k 64k', 'write -z 500k 128k', 'write -z 8k 1k'],
      snapshots: 1,
      bitmaps: 0,
    }),
  ),
  ...['off', 'metadata', 'falloc', 'full'].map(
    (preallocation): Made => ({
      options: `cluster_size=4k,preallocation=${preallocation}`,
      size: '3M',
      writes: some,
      snapshots: 0,
      bitmaps: 0,
    }),
  ),
  { options: 'cluster_size=4k', size: '40M', writes: some, snapshots: 0, bitmaps: 3 },
  {
    options: 'cluster_size=64k,lazy_refcounts=on',
    size: '4M',
    writes: some,
    snapshots: 1,
    bitmaps: 0,
  },
  { options: 'compat=0.10', size: '4M', writes: ['write -P 1 0 1M'], snapshots: 2, bitmaps: 0 },
  { options: 'cluster_size=64k', size: '0', writes: [], snapshots: 0, bitmaps: 0 },
  { options: 'cluster_size=64k', size: '40T', writes: ['write 39T 64k'], snapshots: 1, bitmaps: 0 },
]

async function make(image: Made): Promise<string> {
  const file = folder.fresh('.qcow2')
  await qemuImg('create', '-q', '-f', 'qcow2', '-o', image.options, file, image.size)
  for (let i = 0; i < image.bitmaps; i++) await qemuImg('bitmap', '--add', '-g', `${4 << i}k`, file, `bitmap${i}`)
  const half = Math.ceil(image.writes.length / 2)
  if (image.writes.length > 0) await qemuIo(file, 'qcow2', ...image.writes.slice(0, half))
  for (let i = 0; i < image.snapshots; i++) {
    await qemuImg('snapshot', '-c', `s${i}`, file)
    if (half < image.writes.length) await qemuIo(file, 'qcow2', ...image.writes.slice(half))
  }
  return file
}

/** Changes a few bytes of the first refcount block, where the counts of the first clusters stand. */
function patchCounts(file: string, random: Random): void {
  const fd = openSync(file, 'r+')
  try {
    const header = Buffer.alloc(104)
    readSync(fd, header, 0, 104, 0)
    const entry = Buffer.alloc(8)
    readSync(fd, entry, 0, 8, Number(header.readBigUInt64BE(48)))
    const block = Number(entry.readBigUInt64BE(0))
    for (let i = 0; i < 3; i++) {
      const at = block + random.int(0, 40)
      const byte = Buffer.alloc(1)
      readSync(fd, byte, 0, 1, at)
      writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ (1 << random.int(0, 2))]), 0, 1, at)
    }
  } finally {
    closeSync(fd)
  }
}

describeWith(['qemu-img', 'qemu-io'], 'images that QEMU made', () => {
  const runSeed = seed('check-images')

  it(
    'are found and repaired as by qemu-img',
    async () => {
      await sample('check-images', images, { seed: runSeed, ms: 25_000, atLeast: 8 }, async (image, random) => {
        const file = await make(image)
        const parting: Parting =
          image.bitmaps > 0 ? { bytes: 'QEMU stores the bitmaps anew when it closes the image' } : {}
        for (const repair of ['none', 'leaks', 'all'] as const) await expectSameVerdict(file, repair, parting)
        patchCounts(file, random)
        for (const repair of ['none', 'leaks', 'all'] as const) await expectSameVerdict(file, repair, parting)
      })
    },
    timeFor(25_000),
  )

  it.each(['', ',data_file_raw=on'])('with an external data file%s', async (raw) => {
    const file = folder.fresh('.qcow2')
    const options = `data_file=${file}.data${raw}`
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, file, '2M')
    await qemuIo(file, 'qcow2', 'write -P 1 0 200k', 'write -P 2 1M 64k', 'write -z 1100k 64k')
    for (const repair of ['none', 'leaks', 'all'] as const) await expectSameVerdict(file, repair)
    // The first entry loses COPIED, the second is said to be packed.
    const fd = openSync(file, 'r+')
    const bytes = Buffer.alloc(8)
    readSync(fd, bytes, 0, 8, 40)
    readSync(fd, bytes, 0, 8, Number(bytes.readBigUInt64BE(0)))
    const table = Number(bytes.readBigUInt64BE(0) & 0x00ff_ffff_ffff_fe00n)
    writeSync(fd, Buffer.from([0]), 0, 1, table)
    for (const repair of ['none', 'leaks', 'all'] as const) await expectSameVerdict(file, repair)
    writeSync(fd, Buffer.from([0x40]), 0, 1, table + 8)
    closeSync(fd)
    for (const repair of ['none', 'leaks', 'all'] as const) await expectSameVerdict(file, repair, { remains: true })
  })

  it.each(['luks', 'aes'])('encrypted by %s', async (format) => {
    const file = folder.fresh('.qcow2')
    const secret = ['--object', 'secret,id=s,data=sesame']
    const options = `encrypt.format=${format},encrypt.key-secret=s${format === 'luks' ? ',encrypt.iter-time=10' : ''}`
    const create = () => qemuImg('create', '-q', ...secret, '-f', 'qcow2', '-o', options, file, '2M')
    // On a busy machine qemu-img now and then cannot time its key derivation ("Unable to get accurate CPU usage").
    await create().catch(create).catch(create).catch(create)
    const opened = `driver=qcow2,encrypt.key-secret=s,file.filename=${file}`
    const theirs = await qemuImg('check', ...secret, '--image-opts', '--output=json', opened)
    const { filename: _name, format: _format, ...counters } = JSON.parse(theirs) as Record<string, number>
    // No secret is needed to look at metadata.
    expect(await ourCheck(file, 'none')).toEqual({ counters, lines: [] })
  })
})
