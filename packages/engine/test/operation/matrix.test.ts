/** Every source format into every target format: the content is the same, to the engine and to QEMU, in files and through a pipe. The list of formats is the
 *  engine's own, so that a new one that is left out here fails. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { deflateSync } from 'node:zlib'
import {
  allFormats,
  type Disk,
  openDisk,
  planConversion,
  type StreamCodecs,
  unwrapSource,
  xzStream,
} from '@moraine/engine'
import { nodeStreamCodecs, openFile } from '@moraine/engine/node'
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

/** An image to convert from. */
interface Source {
  path: string
  format: string
  /** The program that packed it: it is unpacked while it is read. */
  packer?: string
}

/** Programs that pack a file as it is, and what they are asked for. */
const packers: readonly (readonly [program: string, suffix: string, args: readonly string[]])[] = [
  ['gzip', 'gz', []],
  ['bzip2', 'bz2', []],
  ['xz', 'xz', ['-0']],
  ['zstd', 'zst', ['-q']],
  ['lz4', 'lz4', ['-q']],
]

const codecs: StreamCodecs = { ...nodeStreamCodecs, xz: xzStream(() => import('@napi-rs/lzma')) }

async function withSource(source: Source, work: (disk: Disk) => Promise<void>): Promise<void> {
  const { path, format, packer } = source
  if (packer === undefined) return withImage(path, format, work)
  const unpacked = await unwrapSource(await openFile(path), { codecs, formats: allFormats })
  await closing(await openDisk(unpacked, { formats: allFormats, format }), async (disk) => {
    expect(disk.size, `${path} unpacked`).toBe(size)
    await work(disk)
  })
}

const tools = ['qemu-img', 'zip', ...packers.map(([program]) => program)]

describeWith(tools, 'every format into every format', () => {
  const random = new Random(seed('matrix'))
  const content = new Uint8Array(size)
  const raw = folder.file('content.raw')
  const sources = new Map<string, Source>()

  beforeAll(async () => {
    for (let i = 0; i < 40; i++) {
      const part = random.bool(0.5)
        ? random.bytes(random.int(1, 90_000))
        : new Uint8Array(random.int(1, 90_000)).fill(i)
      content.set(part, random.int(0, size - part.length))
    }
    // All of it is an optical disc as well: descriptors of a volume, and their end.
    for (const [sector, type] of [
      [16, 1],
      [17, 255],
    ] as const) {
      content.fill(0, sector * 2048, (sector + 1) * 2048)
      content.set([type, ...Buffer.from('CD001'), 1], sector * 2048)
    }
    writeFileSync(raw, content)
    for (const [program, suffix, args] of packers) {
      const path = place(`packed by ${program}`, 'raw')
      writeFileSync(path, content)
      writeFileSync(`${path}.${suffix}`, execFileSync(program, [...args, '-c', path], { maxBuffer: 4 * size }))
      sources.set(`raw in ${suffix}`, { path: `${path}.${suffix}`, format: 'raw', packer: program })
    }
    const zipped = place('packed by zip', 'raw')
    writeFileSync(zipped, content)
    execFileSync('zip', ['-q', '-1', 'disk.zip', 'disk.raw'], { cwd: dirname(zipped) })
    sources.set('raw in zip', { path: join(dirname(zipped), 'disk.zip'), format: 'raw', packer: 'zip' })
    const build = (format: string, bytes: Uint8Array): void => {
      const path = place(`from ${format}`, format)
      writeFileSync(path, bytes)
      sources.set(format, { path, format })
    }
    build('iso', content)
    await withImage(sources.get('iso')?.path ?? '', 'iso', async (disk) => {
      expect(disk.info()).toMatchObject({ format: 'iso', details: { data: { 'file-systems': 'iso9660' } } })
    })
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
  function sourcesToday(): [string, Source][] {
    const all = [...sources]
    if (budget(1) >= 1) return all
    return [...new Set(all.map(([, source]) => group(source)))].map((one) =>
      random.pick(all.filter(([, source]) => group(source) === one)),
    )
  }

  /** What counts as one format: a file is packed by whatever program. */
  function group({ format, packer }: Source): string {
    return packer === undefined ? format : 'packed'
  }

  it.each(targets.map((kind) => [label(kind), kind] as const))('to %s', async (name, kind) => {
    for (const [from, image] of sourcesToday()) {
      await withSource(image, async (source) => {
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
      const seen = new Map([...sources.values()].map((source) => [group(source), source]))
      for (const [format, image] of seen) {
        await withSource(image, async (source) => {
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
