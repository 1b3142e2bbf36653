/** The images that jobs work on, made once and kept. */
import { createHash } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { cp, mkdir, open, readdir, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import type { Bench } from './job.ts'
import { must } from './process.ts'

const gibibyte = 2 ** 30
const tebibyte = 2 ** 40

/** Rounded up to 1 MiB. */
const scaled = (bytes: number, { scale }: Bench) => Math.max(2 ** 20, Math.ceil((bytes * scale) / 2 ** 20) * 2 ** 20)

/** Virtual size of `filesRaw`, in bytes. */
export const filesSize = (bench: Bench): number => scaled(4 * gibibyte, bench)

/** A 4 GiB raw image with an ext4 of about 700 MiB of real files of this machine. */
export function filesRaw(bench: Bench): Promise<string> {
  return bench.input('files.raw', async (path) => {
    const tree = `${path}.tree`
    await rm(tree, { recursive: true, force: true })
    await gather('/usr', tree, scaled(700 * 2 ** 20, bench))
    const file = await open(path, 'w')
    await file.truncate(filesSize(bench))
    await file.close()
    await must('mke2fs', '-q', '-F', '-t', 'ext4', '-d', tree, path)
    await rm(tree, { recursive: true })
  })
}

/** The same image in another form, by qemu-img: `options` are those of its convert. */
export async function filesAs(bench: Bench, name: string, ...options: string[]): Promise<string> {
  const source = await filesRaw(bench)
  return bench.input(name, async (path) => {
    await must('qemu-img', 'convert', '-f', 'raw', ...options, source, path)
  })
}

/** A sparse raw image of 1 TiB with 1 GiB of data in 10,000 pieces, evenly spread. */
export function sparseRaw(bench: Bench): Promise<string> {
  return bench.input('sparse.raw', async (path) => {
    const pieces = Math.max(10, Math.round(10_000 * bench.scale))
    const stride = Math.floor(tebibyte / 10_000 / 4096) * 4096
    const bytes = noise(Math.floor(gibibyte / 10_000 / 4096) * 4096)
    const file = await open(path, 'w')
    try {
      for (let i = 0; i < pieces; i++) {
        bytes.writeUInt32LE(i)
        await file.write(bytes, 0, bytes.length, i * stride)
      }
      await file.truncate(tebibyte)
    } finally {
      await file.close()
    }
  })
}

/** A qcow2 image of 1 TiB with every L2 table present, and a second one like it. */
export async function metadataQcow2(bench: Bench): Promise<[string, string]> {
  const make = (path: string) =>
    must(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      'preallocation=metadata',
      path,
      String(scaled(tebibyte, bench)),
    )
  return [
    await bench.input('metadata-a.qcow2', async (path) => void (await make(path))),
    await bench.input('metadata-b.qcow2', async (path) => void (await make(path))),
  ]
}

/** Images of 100 GiB, one of each format, with all metadata in place where qemu-img can do that. The ending is moraine's name of the format. */
export async function largeImages(bench: Bench): Promise<string[]> {
  const kinds: [format: string, name: string, ...options: string[]][] = [
    ['raw', 'raw'],
    ['qcow2', 'qcow2', 'preallocation=metadata'],
    ['qcow', 'qcow'],
    ['vmdk', 'vmdk'],
    ['vdi', 'vdi', 'static=on'],
    ['vhdx', 'vhdx', 'subformat=fixed'],
    ['vpc', 'vhd', 'subformat=dynamic'],
    ['vpc', 'fixed.vhd', 'subformat=fixed'],
    ['parallels', 'parallels'],
  ]
  const paths: string[] = []
  for (const [format, name, ...options] of kinds) {
    const flags = options.flatMap((option) => ['-o', option])
    const size = scaled(100 * gibibyte, bench)
    paths.push(
      await bench.input(`large.${name}`, async (path) => {
        await must('qemu-img', 'create', '-q', '-f', format, ...flags, path, String(size))
      }),
    )
  }
  return paths
}

/** Bytes that do not compress, the same in every run. */
function noise(length: number): Buffer {
  const blocks: Buffer[] = []
  for (let i = 0; i * 64 < length; i++) blocks.push(createHash('sha512').update(String(i)).digest())
  return Buffer.concat(blocks, length)
}

/** Copies plain files below `from`, in the order of their paths, until about `bytes` of them are there. */
async function gather(from: string, to: string, bytes: number): Promise<void> {
  let left = bytes
  const visit = async (folder: string): Promise<void> => {
    const entries: Dirent[] = await readdir(folder, { withFileTypes: true }).catch(() => [])
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (left <= 0) return
      const path = join(folder, entry.name)
      if (entry.isDirectory()) await visit(path)
      else if (entry.isFile()) left -= await take(path)
    }
  }
  const take = async (path: string): Promise<number> => {
    const { size } = await stat(path)
    if (size > 64 * 2 ** 20 || size > left + 2 ** 20) return 0
    const target = join(to, relative(from, path))
    await mkdir(dirname(target), { recursive: true })
    await cp(path, target)
    return size
  }
  await visit(from)
}
