/** Every source format into every target format: the content is the same, to the engine and to QEMU, in files and through a pipe. The list of formats is the
 *  engine's own, so that a new one that is left out here fails. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { allFormats, type Disk, planConversion } from '@moraine/engine'
import { beforeAll, expect, it } from 'vitest'
import { bochsOf, cloopOf, dmgOf } from '../read-only/builders.ts'
import { checkFile, closing, createFile, formatOf, openWritable, optionsOf, withImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { tryQemuImg } from '../support/qemu.ts'
import { budget, Random, seed } from '../support/random.ts'

/** A kind of image: a format with what else tells how its bytes lie. */
interface Kind {
  format: string
  /** As for `-o`. */
  options?: string
  compress?: true
  /** QEMU's name of the format. */
  qemu?: string
  /** QEMU cannot check it. */
  unchecked?: true
  /** It is several files, which no pipe takes. */
  files?: true
}

/** What is written. */
const targets: readonly Kind[] = [
  { format: 'raw', unchecked: true },
  { format: 'qcow2' },
  { format: 'qcow2', options: 'compat=0.10,cluster_size=4096' },
  { format: 'qcow2', options: 'extended_l2=on,cluster_size=131072' },
  { format: 'qcow2', compress: true },
  { format: 'qcow2', options: 'compression_type=zstd', compress: true },
  { format: 'qcow', unchecked: true },
  { format: 'qcow', compress: true, unchecked: true },
  { format: 'qed' },
  { format: 'vmdk' },
  { format: 'vmdk', options: 'subformat=monolithicFlat', files: true },
  { format: 'vmdk', options: 'subformat=twoGbMaxExtentSparse', files: true },
  { format: 'vmdk', options: 'subformat=twoGbMaxExtentFlat', files: true },
  { format: 'vmdk', options: 'subformat=vmfs', files: true },
  { format: 'vmdk', options: 'subformat=vmfsThin', files: true },
  { format: 'vmdk', options: 'subformat=streamOptimized' },
  { format: 'vdi' },
  { format: 'vdi', options: 'static=on' },
  { format: 'vhd', qemu: 'vpc', unchecked: true },
  { format: 'vhd', options: 'subformat=fixed,force_size=on', qemu: 'vpc', unchecked: true },
  { format: 'vhdx' },
  { format: 'vhdx', options: 'subformat=fixed' },
  { format: 'parallels' },
]

/** What is only read, or only named. */
const readOnly = ['bochs', 'cloop', 'dmg', 'iso', 'luks2', 'vhds', 'asif'] as const
const label = ({ format, options, compress }: Kind): string =>
  [format, options, compress && 'compressed'].filter((part) => part !== undefined).join(' ')

/** Whole cylinders of a VHD of this size, and whole blocks of everything else. */
const size = 6 << 20

const folder = temporaryFolder()

/** One image, alone in a folder: some are several files, and descriptors name them. */
function place(name: string, format: string): string {
  const own = folder.file(name)
  mkdirSync(own)
  return join(own, `disk.${format}`)
}

/** Converts into a new image. */
async function convert(source: Disk, path: string, { format, options = '', compress }: Kind): Promise<void> {
  const values = optionsOf(format, options)
  const plan = await planConversion(source, { format: formatOf(format), options: values, compress })
  await createFile(path, format, source.size, options)
  await closing(await openWritable(path, format), (disk) => plan.run(disk))
}

/** Streams into a file, as into a pipe. */
async function pipe(source: Disk, path: string, { format, options = '', compress }: Kind): Promise<void> {
  const values = optionsOf(format, options)
  const plan = await planConversion(source, { format: formatOf(format), options: values, compress })
  const stream = await plan.stream()
  const chunks: Uint8Array[] = []
  for await (const chunk of stream.chunks()) chunks.push(chunk)
  const bytes = Buffer.concat(chunks)
  if (stream.length !== undefined) expect(bytes.length, 'the length that was promised').toBe(stream.length)
  writeFileSync(path, bytes)
}

/** The oracle: QEMU sees the content, and finds nothing wrong. A format may round the size up, to zeros. */
async function judge(raw: string, path: string, { format, qemu = format, unchecked }: Kind): Promise<void> {
  const compared = await tryQemuImg(['compare', '-f', 'raw', '-F', qemu, raw, path])
  expect([compared.code, compared.stderr], compared.stdout).toEqual([0, ''])
  if (unchecked === undefined) {
    const checked = await tryQemuImg(['check', '-f', qemu, path])
    expect([checked.code, checked.stderr], checked.stdout).toEqual([0, ''])
  }
  if (formatOf(format).check !== undefined) {
    const { result } = await checkFile(path, format)
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 })
  }
}

describeWith(['qemu-img'], 'every format into every format', () => {
  const random = new Random(seed('matrix'))
  const content = new Uint8Array(size)
  const raw = folder.file('content.raw')
  const sources = new Map<string, { path: string; format: string }>()

  beforeAll(async () => {
    for (let i = 0; i < 40; i++) {
      const part = random.bool(0.5)
        ? random.bytes(random.int(1, 90_000))
        : new Uint8Array(random.int(1, 90_000)).fill(i)
      content.set(part, random.int(0, size - part.length))
    }
    writeFileSync(raw, content)
    const build = (format: string, bytes: Uint8Array): void => {
      const path = place(`from ${format}`, format)
      writeFileSync(path, bytes)
      sources.set(format, { path, format })
    }
    build('bochs', bochsOf(content, 65_536, 2))
    build('cloop', cloopOf(content, 65_536))
    const half = size / 2
    const pieces = [content.subarray(0, half), content.subarray(half)]
    build(
      'dmg',
      dmgOf(
        pieces.map((piece) => ({ type: 0x8000_0005, size: half, stored: deflateSync(piece) })),
        'plist',
      ),
    )
    await withImage(raw, 'raw', async (source) => {
      for (const kind of targets) {
        const path = place(`from ${label(kind)}`, kind.format)
        await convert(source, path, kind)
        sources.set(label(kind), { path, format: kind.format })
      }
    })
  })

  it('has every format that the engine has', () => {
    const written = new Set(targets.map(({ format }) => format))
    for (const { name, create } of allFormats) {
      if (create === undefined) expect(readOnly, name).toContain(name)
      // What needs a password has a suite of its own.
      else if (name !== 'luks') expect(written, name).toContain(name)
    }
  })

  /** With half the time for loops, of each source format one kind, another one from seed to seed. */
  function sourcesToday(): [string, { path: string; format: string }][] {
    const all = [...sources]
    if (budget(1) >= 1) return all
    return [...new Set(all.map(([, { format }]) => format))].map((format) =>
      random.pick(all.filter(([, source]) => source.format === format)),
    )
  }

  it.each(targets.map((kind) => [label(kind), kind] as const))('to %s', async (name, kind) => {
    for (const [from, { path, format }] of sourcesToday()) {
      await withImage(path, format, async (source) => {
        const file = place(`${from} to ${name}`, kind.format)
        await convert(source, file, kind)
        await judge(raw, file, kind).catch((error) => {
          throw new Error(`from ${from}: ${(error as Error).message}`, { cause: error })
        })
      })
      rmSync(folder.file(`${from} to ${name}`), { recursive: true })
    }
  })

  it.each(targets.filter(({ files }) => files === undefined).map((kind) => [label(kind), kind] as const))(
    'to %s through a pipe',
    async (name, kind) => {
      // Of each source format one kind: a stream sees nothing but extents.
      const seen = new Map([...sources.values()].map((source) => [source.format, source]))
      for (const { path, format } of seen.values()) {
        await withImage(path, format, async (source) => {
          const file = place(`${format} piped to ${name}`, kind.format)
          await pipe(source, file, kind)
          await judge(raw, file, kind).catch((error) => {
            throw new Error(`from ${format}: ${(error as Error).message}`, { cause: error })
          })
        })
        rmSync(folder.file(`${format} piped to ${name}`), { recursive: true })
      }
    },
  )
})
