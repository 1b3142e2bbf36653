/** `compare` against qemu-img: the verdict, the place and the reason. */
import { closeSync, copyFileSync, openSync, writeSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Comparison, compareDisks, type Disk } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg, qemuIo, tryQemuImg } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { openForReading, randomPieces, writeSparse } from './support.ts'

const folder = temporaryFolder()

async function compared(a: string, b: string, strict = false, formats = ['raw', 'raw']): Promise<Comparison> {
  const left = await openForReading(a, formats[0] ?? 'raw')
  const right = await openForReading(b, formats[1] ?? 'raw')
  try {
    return await compareDisks(left, right, { strict })
  } finally {
    await left.close()
    await right.close()
  }
}

/** What qemu-img prints for a verdict. */
function inWords(found: Comparison): string {
  const lines: string[] = []
  if (found.sizeMismatch && (found.identical || found.reason !== 'size')) lines.push('Warning: Image size mismatch!')
  if (found.identical) lines.push('Images are identical.')
  else if (found.reason === 'size') lines.push('Strict mode: Image size mismatch!')
  else if (found.reason === 'status') lines.push(`Strict mode: Offset ${found.offset} block status mismatch!`)
  else lines.push(`Content mismatch at offset ${found.offset}!`)
  return `${lines.join('\n')}\n`
}

async function theirs(a: string, b: string, strict = false, formats = ['raw', 'raw']): Promise<string> {
  const [left = 'raw', right = 'raw'] = formats
  const result = await tryQemuImg(['compare', '-f', left, '-F', right, ...(strict ? ['-s'] : []), a, b])
  return result.stdout
}

function poke(path: string, offset: number, bytes: Uint8Array): void {
  const descriptor = openSync(path, 'r+')
  writeSync(descriptor, bytes, 0, bytes.length, offset)
  closeSync(descriptor)
}

describeWith(['qemu-img'], 'compareDisks', () => {
  it('agrees with qemu-img on disks that differ in one place, in size, or in what is allocated', async () => {
    const random = new Random(seed('compare'))
    for (let round = 0; round < 10; round++) {
      const a = folder.fresh('.raw')
      const b = folder.fresh('.raw')
      const size = random.int(1, 8 * 1024 * 1024)
      writeSparse(a, size, randomPieces(random, size, random.int(0, 8), 3 * 1024 * 1024))
      copyFileSync(a, b)
      if (random.bool(0.4)) poke(b, size + random.int(1, 5_000_000), new Uint8Array(1))
      if (random.bool(0.2)) poke(b, size + random.int(1, 5_000_000), Uint8Array.of(1))
      if (random.bool(0.3)) poke(b, random.int(0, size - 1), Uint8Array.of(random.int(0, 255)))
      if (random.bool(0.4)) poke(b, random.int(0, size - 1), new Uint8Array(1))
      for (const [x, y] of [
        [a, b],
        [b, a],
      ] as const) {
        expect(inWords(await compared(x, y))).toBe(await theirs(x, y))
        expect(inWords(await compared(x, y, true))).toBe(await theirs(x, y, true))
      }
    }
  })

  it('agrees with qemu-img on images of different kinds', async () => {
    const random = new Random(seed('compare kinds'))
    for (let round = 0; round < 6; round++) {
      const size = random.int(1, 8000) * 1024
      const bare = folder.fresh('.raw')
      writeSparse(bare, size, randomPieces(random, size, random.int(0, 8), 1024 * 1024))
      const images: [string, string][] = [[bare, 'raw']]
      for (const options of ['cluster_size=64k', 'cluster_size=4k', 'preallocation=metadata']) {
        const path = folder.fresh('.qcow2')
        const packed = options === 'cluster_size=4k' ? ['-c'] : []
        await qemuImg('convert', ...packed, '-f', 'raw', '-O', 'qcow2', '-o', options, bare, path)
        if (random.bool(0.5)) {
          const at = random.int(0, size / 1024 - 1) * 1024
          await qemuIo(path, 'qcow2', `${random.pick(['write -P 0', 'write -z', 'write -P 5'])} ${at} 1024`)
        }
        images.push([path, 'qcow2'])
      }
      const [a, b] = [random.pick(images), random.pick(images)]
      for (const strict of [false, true]) {
        expect(inWords(await compared(a[0], b[0], strict, [a[1], b[1]]))).toBe(
          await theirs(a[0], b[0], strict, [a[1], b[1]]),
        )
      }
    }
  })
})

describe('compareDisks', () => {
  it('reads no hole, and nothing at all where both disks lie in the same file', async () => {
    const path = folder.fresh('.raw')
    const bytes = new Uint8Array(100_000).fill(1)
    writeSparse(path, 2 ** 40, [
      { offset: 0, bytes },
      { offset: 2 ** 39, bytes },
    ])
    const other = folder.fresh('.raw')
    writeSparse(other, 2 ** 40, [{ offset: 2 ** 39, bytes }])
    const a = await openForReading(path, 'raw')
    const same = await openForReading(path, 'raw')
    const b = await openForReading(other, 'raw')
    const reads = [a, same, b].map(countReads)
    expect(await compareDisks(a, same)).toEqual({ identical: true, sizeMismatch: false })
    expect(reads.map((count) => count())).toEqual([0, 0, 0])
    expect(await compareDisks(a, b)).toEqual({ identical: false, offset: 0, reason: 'content', sizeMismatch: false })
    expect(reads[2]?.()).toBeLessThan(200_000)
    for (const disk of [a, same, b]) await disk.close()
  })

  it('stops when cancelled', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 1_000_000, [{ offset: 0, bytes: new Uint8Array(500_000).fill(1) }])
    const a = await openForReading(path, 'raw')
    const stop = new AbortController()
    stop.abort()
    await expect(compareDisks(a, a, { signal: stop.signal })).rejects.toMatchObject({ kind: 'cancelled' })
    await a.close()
  })
})

function countReads(disk: Disk): () => number {
  let bytes = 0
  const { file } = disk
  const read = file.read.bind(file)
  file.read = (offset, into, signal) => {
    bytes += into.length
    return read(offset, into, signal)
  }
  return () => bytes
}
