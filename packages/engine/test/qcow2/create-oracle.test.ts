/** A new image has the bytes that `qemu-img create` gives it, for every combination of options; what qemu-img refuses is refused in its words. */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isMoraineError } from '@moraine/engine'
import { expect, it } from 'vitest'
import { createFile } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { tryQemuImg } from '../support/qemu.ts'
import { combinations, Random, sample, seed, timeFor } from '../support/random.ts'

const folder = temporaryFolder()

const axes = combinations({
  compat: ['0.10', '1.1', undefined],
  cluster_size: ['512', '1k', '4k', '16k', '64k', '2M', undefined],
  refcount_bits: ['1', '2', '4', '8', '16', '32', '64', undefined],
  extended_l2: ['on', undefined],
  compression_type: ['zstd', undefined],
  preallocation: ['metadata', 'falloc', 'full', undefined],
  lazy_refcounts: ['on', undefined],
  data_file: ['data', undefined],
  data_file_raw: ['on', undefined],
  backing: ['raw', 'qcow2', undefined],
  size: ['0', '1', '1000', '1M', '3M+512', '70M', '600M', '9G', '40T'],
})

type Combination = (typeof axes)[number]

const sizes: Record<string, bigint> = {
  '0': 0n,
  '1': 1n,
  '1000': 1000n,
  '1M': 1n << 20n,
  '3M+512': (3n << 20n) + 512n,
  '70M': 70n << 20n,
  '600M': 600n << 20n,
  '9G': 9n << 30n,
  '40T': 40n << 40n,
}

/** Bytes that the combination's file would have, about; the larger ones only cost time. */
function cost(one: Combination): bigint {
  const size = sizes[one.size] ?? 0n
  const cluster =
    { '512': 512n, '1k': 1024n, '4k': 4096n, '16k': 16384n, '2M': 2n << 20n }[one.cluster_size ?? ''] ?? 65536n
  const l1 = (size / (cluster * cluster)) * 64n
  if (one.preallocation === undefined && one.data_file_raw === undefined) return l1
  return one.preallocation === 'metadata' || one.preallocation === undefined ? l1 + (size / cluster) * 16n : l1 + size
}

const affordable = axes.filter((one) => {
  // The host's file system may not have such large files.
  if (one.data_file !== undefined && one.size === '40T') return false
  const bytes = cost(one)
  return bytes < (one.preallocation === 'metadata' || one.data_file_raw === 'on' ? 8n << 20n : 20n << 20n)
})

/** The combinations in which nothing contradicts: most of a plain sample would only test refusals. */
const sound = affordable.filter(
  (one) =>
    (one.compat !== '0.10' ||
      ((one.refcount_bits ?? '16') === '16' &&
        [one.extended_l2, one.compression_type, one.lazy_refcounts, one.data_file].every(
          (value) => value === undefined,
        ))) &&
    (one.extended_l2 === undefined || ['16k', '64k', '2M', undefined].includes(one.cluster_size)) &&
    (one.data_file !== undefined || one.data_file_raw === undefined) &&
    (one.backing === undefined ||
      (one.data_file_raw === undefined && (one.preallocation === undefined || one.extended_l2 === 'on'))),
)

let count = 0

async function compare(one: Combination): Promise<'made' | 'refused'> {
  const { backing, size, ...rest } = one
  const options = Object.entries(rest)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
  const theirs = folder.file(`q${++count}`)
  const ours = folder.file(`m${count}`)
  for (const path of [theirs, ours]) {
    mkdirSync(path)
    writeFileSync(join(path, 'base.raw'), new Uint8Array(70_000 - (70_000 % 512)).fill(7))
    if (backing === 'qcow2') await tryQemuImg(['create', '-q', '-f', 'qcow2', join(path, 'base.qcow2'), '5M'])
  }
  try {
    const result = await tryQemuImg(
      [
        'create',
        '-q',
        '-f',
        'qcow2',
        ...(options === '' ? [] : ['-o', options]),
        ...(backing === undefined ? [] : ['-b', `base.${backing}`, '-F', backing]),
        'image',
        `${sizes[size]}`,
      ],
      // A relative data file name is relative to the working folder for QEMU.
      { cwd: theirs },
    )
    const created = createFile(
      join(ours, 'image'),
      'qcow2',
      sizes[size] ?? 0n,
      options,
      backing === undefined ? undefined : { name: `base.${backing}`, format: backing },
    )
    if (result.code !== 0) {
      const error = await created.then(
        () => undefined,
        (reason: unknown) => reason,
      )
      if (error === undefined) throw new Error(`qemu-img refuses it: ${result.stderr}`)
      if (!isMoraineError(error)) throw error
      expect(result.stderr.split('\n')[0]).toBe(`qemu-img: image: ${error.reason}`)
      return 'refused'
    }
    await created
    for (const name of rest.data_file === undefined ? ['image'] : ['image', 'data']) {
      expect(statSync(join(ours, name)).size, `bytes of ${name}`).toBe(statSync(join(theirs, name)).size)
      if (statSync(join(ours, name)).size > 96 << 20) continue
      const a = readFileSync(join(theirs, name))
      const b = readFileSync(join(ours, name))
      if (Buffer.compare(a, b) !== 0) {
        const first = a.findIndex((byte, i) => byte !== b[i])
        throw new Error(
          `${name} differs at byte ${first}: QEMU ${a.subarray(first - (first % 8), first + 16).toString('hex')}, ours ${b.subarray(first - (first % 8), first + 16).toString('hex')}`,
        )
      }
    }
    return 'made'
  } finally {
    rmSync(theirs, { recursive: true })
    rmSync(ours, { recursive: true })
  }
}

describeWith(['qemu-img'], 'new qcow2 images', () => {
  const runSeed = seed('create-oracle')

  it(
    'have the bytes that qemu-img gives them',
    async () => {
      await sample('create-oracle, sound options', sound, { seed: runSeed, ms: 15_000, atLeast: 20 }, async (one) => {
        expect(await compare(one)).toBe('made')
      })
    },
    timeFor(15_000),
  )

  it(
    'are refused as qemu-img refuses them',
    async () => {
      const other = new Random(runSeed).shuffle(affordable.filter((one) => !sound.includes(one)))
      await sample('create-oracle, any options', other, { seed: runSeed, ms: 5000, atLeast: 20 }, async (one) => {
        await compare(one)
      })
    },
    timeFor(5000),
  )

  it('the seed of the project: 8 GiB, preallocation=metadata', async () => {
    const one = Object.fromEntries(Object.keys(axes[0] ?? {}).map((key) => [key, undefined])) as unknown as Combination
    sizes['8G'] = 8n << 30n
    expect(await compare({ ...one, preallocation: 'metadata', size: '8G' as Combination['size'] })).toBe('made')
  })
})
