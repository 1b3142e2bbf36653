/** Uncompressed, in-order conversions give the very bytes that qemu-img gives: the same structures at the same offsets. */
import { expect, it } from 'vitest'
import { allFormats } from '../../src/format/all.ts'
import { type DiskFormat, type OptionValues, planConversion } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { expectClean, fileSha, qemuImg, qemuIo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { newImage, openForReading, randomPieces, writeSparse } from './support.ts'

const folder = temporaryFolder()
const qcow2 = allFormats.find(({ name }) => name === 'qcow2') as DiskFormat

interface Case {
  options: OptionValues
  /** The same for qemu-img. */
  text: string
}

const cases: Case[] = [
  { options: {}, text: 'cluster_size=64k' },
  { options: { cluster_size: 512n }, text: 'cluster_size=512' },
  { options: { cluster_size: 4096n, refcount_bits: 64 }, text: 'cluster_size=4k,refcount_bits=64' },
  { options: { cluster_size: 1024n, refcount_bits: 1 }, text: 'cluster_size=1k,refcount_bits=1' },
  { options: { cluster_size: 2_097_152n }, text: 'cluster_size=2M' },
  { options: { cluster_size: 16_384n, extended_l2: true }, text: 'cluster_size=16k,extended_l2=on' },
  { options: { compat: '0.10' }, text: 'compat=0.10' },
  { options: { preallocation: 'metadata' }, text: 'preallocation=metadata' },
  { options: { preallocation: 'falloc', cluster_size: 32_768n }, text: 'preallocation=falloc,cluster_size=32k' },
  { options: { lazy_refcounts: true, compression_type: 'zstd' }, text: 'lazy_refcounts=on,compression_type=zstd' },
]

/** Converts with the engine into a new image. */
async function convert(
  source: string,
  from: string,
  target: string,
  options: OptionValues,
  more: { sparseBytes?: number; backing?: { name: string; format: string } } = {},
): Promise<void> {
  const disk = await openForReading(source, from)
  const base = more.backing === undefined ? undefined : await openForReading(more.backing.name, more.backing.format)
  try {
    const plan = await planConversion(disk, {
      format: qcow2,
      options,
      ...(more.sparseBytes !== undefined && { sparseBytes: more.sparseBytes }),
      ...(more.backing !== undefined && { backing: { ...more.backing, disk: base } }),
    })
    const out = await newImage(target, qcow2, disk.size, options, more.backing)
    try {
      await plan.run(out)
    } finally {
      await out.close()
    }
  } finally {
    await disk.close()
    await base?.close()
  }
}

async function expectSameFile(ours: string, theirs: string): Promise<void> {
  await expectClean(ours, 'qcow2')
  expect(await fileSha(ours)).toBe(await fileSha(theirs))
}

describeWith(['qemu-img', 'qemu-io'], 'a conversion to qcow2 has the very bytes of qemu-img', () => {
  it.each(cases)('from raw, with $text', async ({ options, text }) => {
    const random = new Random(seed(`layout ${text}`))
    for (let round = 0; round < 3; round++) {
      const source = folder.fresh('.raw')
      const size = random.int(1, 24 * 1024 * 1024)
      writeSparse(source, size, randomPieces(random, size, random.int(1, 25), 5_000_000))
      const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
      await convert(source, 'raw', ours, options)
      await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', text, source, theirs)
      await expectSameFile(ours, theirs)
    }
  })

  it('from raw, with zeros written too', async () => {
    const source = folder.fresh('.raw')
    const random = new Random(seed('layout -S 0'))
    writeSparse(source, 10_000_001, randomPieces(random, 10_000_001, 5, 300_000))
    const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
    await convert(source, 'raw', ours, {}, { sparseBytes: 0 })
    await qemuImg('convert', '-S', '0', '-f', 'raw', '-O', 'qcow2', source, theirs)
    await expectSameFile(ours, theirs)
  })

  it.each(cases)('from a written-over, discarded-in, packed image, into $text', async ({ options, text }) => {
    const random = new Random(seed(`layout from qcow2 ${text}`))
    for (let round = 0; round < 2; round++) {
      const source = folder.fresh('.qcow2')
      await usedImage(random, source, round === 0 ? 'cluster_size=4k' : 'cluster_size=64k,compression_type=zstd')
      const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
      await convert(source, 'qcow2', ours, options)
      await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', '-o', text, source, theirs)
      await expectSameFile(ours, theirs)
    }
  })

  it('from a preallocated image', async () => {
    const source = folder.fresh('.qcow2')
    await qemuImg('create', '-f', 'qcow2', '-o', 'preallocation=metadata', source, '20M')
    await qemuIo(source, 'qcow2', 'write -P 1 100k 70k', 'write -P 2 5M 3M')
    const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
    await convert(source, 'qcow2', ours, {})
    await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', source, theirs)
    await expectSameFile(ours, theirs)
  })

  it('from a chain, flattened', async () => {
    const random = new Random(seed('layout chain'))
    const { top } = await chain(random)
    const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
    await convert(top, 'qcow2', ours, {})
    await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', top, theirs)
    await expectSameFile(ours, theirs)
  })

  it('from an overlay, onto the same backing file', async () => {
    const random = new Random(seed('layout overlay'))
    const { base, top } = await chain(random)
    const [ours, theirs] = [folder.fresh('.qcow2'), folder.fresh('.qcow2')]
    await convert(top, 'qcow2', ours, {}, { backing: { name: base, format: 'qcow2' } })
    await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', '-B', base, '-F', 'qcow2', top, theirs)
    await expectSameFile(ours, theirs)
    await qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', top, ours)
  })
})

/** An image with a history: packed clusters, written over in part, with zeros and discards. */
async function usedImage(random: Random, path: string, options: string): Promise<void> {
  const packed = folder.fresh('.raw')
  writeSparse(packed, 16 * 1024 * 1024, randomPieces(random, 16 * 1024 * 1024, 6, 2_000_000))
  await qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, packed, path)
  const lines: string[] = []
  for (let i = 0; i < 30; i++) {
    const at = random.int(0, 15 * 1024) * 1024
    const length = random.pick([1024, 4096, 65_536, 300_032])
    const kind = random.pick([
      `write -P ${random.int(1, 255)}`,
      `write -P ${random.int(1, 255)}`,
      'write -z',
      'discard',
    ])
    lines.push(`${kind} ${at} ${length}`)
  }
  await qemuIo(path, 'qcow2', ...lines)
}

async function chain(random: Random): Promise<{ base: string; top: string }> {
  const base = folder.fresh('.qcow2')
  const top = folder.fresh('.qcow2')
  await usedImage(random, base, 'cluster_size=64k')
  await qemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '20M')
  const lines: string[] = []
  for (let i = 0; i < 25; i++) {
    const length = random.pick([1024, 4096, 65_536, 300_032])
    const at = random.int(0, 19 * 1024) * 1024
    lines.push(`${random.pick([`write -P ${random.int(1, 255)}`, 'write -z'])} ${at} ${length}`)
  }
  await qemuIo(top, 'qcow2', ...lines)
  return { base, top }
}
