/** Zeroing and discarding beside qemu-io: the same requests leave the same entries, whole clusters and parts of them, and the same bytes. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { expectClean, guestSha, qemuImg, qemuIo } from '../support/qemu.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'

const folder = temporaryFolder()

/** An image to begin with: options of `create`, and where its guest bytes come from. */
interface Kind {
  name: string
  options: string
  cluster: number
  backing?: 'shorter' | 'longer'
  data?: boolean
  snapshot?: boolean
}

const kinds: Kind[] = [
  { name: 'standard', options: 'cluster_size=4k', cluster: 4096 },
  { name: 'standard, over a backing file', options: 'cluster_size=4k', cluster: 4096, backing: 'shorter' },
  { name: 'standard, over a longer backing file', options: 'cluster_size=64k', cluster: 65536, backing: 'longer' },
  { name: 'standard, with a snapshot', options: 'cluster_size=4k', cluster: 4096, snapshot: true },
  { name: 'standard, preallocated', options: 'cluster_size=4k,preallocation=metadata', cluster: 4096 },
  { name: 'version 2', options: 'compat=0.10,cluster_size=4k', cluster: 4096 },
  { name: 'version 2, over a backing file', options: 'compat=0.10,cluster_size=4k', cluster: 4096, backing: 'shorter' },
  { name: 'extended', options: 'extended_l2=on,cluster_size=16k', cluster: 16384 },
  { name: 'extended, large', options: 'extended_l2=on,cluster_size=64k', cluster: 65536 },
  {
    name: 'extended, over a backing file',
    options: 'extended_l2=on,cluster_size=16k',
    cluster: 16384,
    backing: 'shorter',
  },
  {
    name: 'extended, over a longer backing file',
    options: 'extended_l2=on,cluster_size=64k',
    cluster: 65536,
    backing: 'longer',
  },
  { name: 'extended, with a snapshot', options: 'extended_l2=on,cluster_size=16k', cluster: 16384, snapshot: true },
  { name: 'extended, preallocated', options: 'extended_l2=on,cluster_size=16k,preallocation=metadata', cluster: 16384 },
  { name: 'with a data file', options: 'cluster_size=4k', cluster: 4096, data: true },
  { name: 'extended, with a data file', options: 'extended_l2=on,cluster_size=16k', cluster: 16384, data: true },
  { name: 'with a raw data file', options: 'cluster_size=4k,data_file_raw=on', cluster: 4096, data: true },
  {
    name: 'extended, with a raw data file',
    options: 'extended_l2=on,cluster_size=16k,data_file_raw=on',
    cluster: 16384,
    data: true,
  },
]

/** The entries of the active L2 tables, without the places of clusters: those depend on when space that was freed is used again. */
function readEntries(file: string): string[] {
  const bytes = readFileSync(file)
  const clusterSize = 1 << bytes.readUInt32BE(20)
  const extended = bytes.readUInt32BE(4) === 3 && (bytes.readBigUInt64BE(72) & 16n) !== 0n
  const step = extended ? 16 : 8
  const l1 = Number(bytes.readBigUInt64BE(40))
  const list: string[] = []
  for (let i = 0; i < bytes.readUInt32BE(36); i++) {
    const table = Number(bytes.readBigUInt64BE(l1 + i * 8) & 0x00ff_ffff_ffff_fe00n)
    for (let at = 0; at < clusterSize; at += step) {
      if (table === 0) {
        list.push('-')
        continue
      }
      const entry = bytes.readBigUInt64BE(table + at)
      const bitmap = extended
        ? ` ${bytes
            .readBigUInt64BE(table + at + 8)
            .toString(16)
            .padStart(16, '0')}`
        : ''
      const packed = (entry >> 62n) & 1n
      const flags = `${entry >> 63n ? 'copied ' : ''}${packed ? 'packed ' : ''}${!packed && entry & 1n ? 'zero ' : ''}`
      const host = packed === 0n && (entry & 0x00ff_ffff_ffff_fe00n) !== 0n ? 'host' : ''
      list.push(`${flags}${host}${bitmap}`.trim().replace(/^0+$/, '') || '-')
    }
  }
  while (list.at(-1)?.match(/^(-|0*)$/)) list.pop()
  return list
}

/** Makes an image that has a bit of everything. */
async function make(kind: Kind, size: number, random: Random): Promise<{ file: string; packed: Set<number> }> {
  const file = folder.fresh('.qcow2')
  const options = kind.data === true ? `${kind.options},data_file=${file}.data` : kind.options
  const over: string[] = []
  if (kind.backing !== undefined) {
    const base = folder.fresh('.base')
    const length = kind.backing === 'shorter' ? Math.floor(size / 2 / 512) * 512 : size + 65536
    const bytes = new Uint8Array(length)
    for (let at = 0; at < length; at += 4096) if (random.bool()) bytes.fill(random.int(0, 255), at, at + 4096)
    writeFileSync(base, bytes)
    over.push('-b', base, '-F', 'raw')
  }
  await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, ...over, file, `${size}`)
  const clusters = Math.floor(size / kind.cluster)
  const packed = new Set<number>()
  const packing: string[] = []
  const lines: string[] = []
  const used = new Set<number>()
  for (let i = 0; i < 10; i++) {
    const at = random.int(0, clusters - 1)
    const kindOfWrite = random.int(0, 3)
    const [start, length] = [at * kind.cluster, kind.cluster]
    if (kindOfWrite === 0) {
      if (kind.data === true || used.has(at) || kind.options.includes('prealloc')) continue
      packing.push(`write -c -P ${i + 1} ${start} ${length}`)
      packed.add(at)
    } else if (kindOfWrite === 1) lines.push(`write -P ${i + 1} ${start} ${length}`)
    else if (kindOfWrite === 2)
      lines.push(`write -P ${i + 1} ${start + 512 * random.int(0, 3)} ${random.int(1, kind.cluster / 512 - 3) * 512}`)
    else if (!kind.options.includes('0.10')) lines.push(`write -z ${start} ${length}`)
    used.add(at).add(at + 1)
  }
  // Not in one run: QEMU 7.2 goes on packing where a cluster was freed and given to data.
  for (const run of [packing, lines]) if (run.length > 0) await qemuIo(file, 'qcow2', ...run)
  if (kind.snapshot === true) {
    await qemuImg('snapshot', '-c', 'one', file)
    await qemuIo(file, 'qcow2', 'write -P 99 0 1k')
  }
  return { file, packed }
}

/** A request, for qemu-io and for the engine. */
interface Request {
  line: string
  how: 'allocate' | 'unmap' | 'discard' | 'write'
  at: number
  length: number
}

function request(kind: Kind, size: number, packed: ReadonlySet<number>, random: Random): Request {
  const unit = random.pick([512, 512, kind.cluster / 32, kind.cluster / 2, kind.cluster, kind.cluster])
  const step = Math.max(512, unit)
  let at = Math.min(size - 512, random.int(0, Math.floor(size / step)) * step)
  let end = random.bool(0.1) ? size : Math.min(size, at + random.int(1, 6) * step)
  // Of a request that takes parts of a packed cluster QEMU writes every byte, where here the other clusters are zeroed by their entries.
  if (packed.has(Math.floor(at / kind.cluster))) at -= at % kind.cluster
  if (packed.has(Math.floor(end / kind.cluster))) end = Math.min(size, Math.ceil(end / kind.cluster) * kind.cluster)
  const length = end - at
  const how = random.pick(['allocate', 'allocate', 'unmap', 'unmap', 'discard', 'discard', 'write'] as const)
  const line = { allocate: 'write -z', unmap: 'write -z -u', discard: 'discard', write: 'write -P 77' }[how]
  return { line: `${line} ${at} ${length}`, how, at, length }
}

describeWith(['qemu-img', 'qemu-io'], 'zeroing and discarding', () => {
  const runSeed = seed('clear-oracle')

  it.each(kinds)(
    '$name: leaves what qemu-io leaves',
    async (kind) => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(1200)
      do {
        const size = kind.cluster * random.int(8, 40) + 512 * random.int(0, 7)
        const { file: theirs, packed } = await make(kind, size, random)
        const ours = `${theirs}.ours`
        const requests = Array.from({ length: random.int(1, 6) }, () => request(kind, size, packed, random))
        const what = `MORAINE_SEED=${runSeed}: ${size}: ${requests.map(({ line }) => line).join('; ')}`
        copyFileSync(theirs, ours)
        // The copy names the same data file, so one works after the other.
        if (kind.data === true) copyFileSync(`${theirs}.data`, `${theirs}.data.before`)
        await qemuIo(theirs, 'qcow2', ...requests.map(({ line }) => line))
        const sha = await guestSha(theirs, 'qcow2')
        const raw = kind.data === true ? readFileSync(`${theirs}.data`) : undefined
        if (kind.data === true) copyFileSync(`${theirs}.data.before`, `${theirs}.data`)
        await withWritable(ours, 'qcow2', async (disk) => {
          for (const { how, at, length } of requests) {
            if (how === 'discard') await disk.discard(at, length)
            else if (how === 'write') await disk.write(at, new Uint8Array(length).fill(77))
            else await disk.zero(at, length, how)
          }
        })
        expect(readEntries(ours), what).toEqual(readEntries(theirs))
        expect(await guestSha(ours, 'qcow2'), what).toBe(sha)
        if (kind.options.includes('raw')) {
          expect(
            Buffer.compare(readFileSync(`${theirs}.data`).subarray(0, size), raw?.subarray(0, size) ?? Buffer.alloc(0)),
            what,
          ).toBe(0)
        }
        await expectClean(ours, 'qcow2')
      } while (Date.now() < end)
    },
    timeFor(1200),
  )

  it.each(kinds.filter(({ backing }) => backing === 'longer'))(
    '$name: leaves what qemu-img resize leaves',
    async (kind) => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(1000)
      do {
        const size = kind.cluster * random.int(3, 10) + 512 * random.int(0, kind.cluster / 512 - 1)
        const { file: theirs } = await make(kind, size, random)
        const ours = `${theirs}.ours`
        copyFileSync(theirs, ours)
        const more = size + 512 * random.int(1, (3 * kind.cluster) / 512)
        await qemuImg('resize', '-q', theirs, `${more}`)
        await withWritable(ours, 'qcow2', (disk) => disk.resize(more))
        const what = `MORAINE_SEED=${runSeed}: ${size} to ${more}`
        expect(readEntries(ours), what).toEqual(readEntries(theirs))
        expect(await guestSha(ours, 'qcow2'), what).toBe(await guestSha(theirs, 'qcow2'))
        await expectClean(ours, 'qcow2')
      } while (Date.now() < end)
    },
    timeFor(1000),
  )
})
