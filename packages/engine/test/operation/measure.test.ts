/** `measure` against qemu-img: sizes of all magnitudes, every option that counts, sources of all kinds. */
import { describe, expect, it } from 'vitest'
import { allFormats } from '../../src/format/all.ts'
import { measureQcow2 } from '../../src/format/qcow2/measure.ts'
import { qcow2Options } from '../../src/format/qcow2/options.ts'
import {
  findFormat,
  isMoraineError,
  type Measure,
  measureImage,
  raw,
  readOptions,
  splitOptions,
} from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg, qemuIo, tryQemuImg } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { openForReading, type Piece, randomPieces, writeSparse } from './support.ts'

const folder = temporaryFolder()

function optionsOf(text: string) {
  return readOptions(qcow2Options(), splitOptions(text))
}

/** In the words of qemu-img's JSON. */
function inJson({ required, fullyAllocated, bitmaps }: Measure): unknown {
  return { required, 'fully-allocated': fullyAllocated, ...(bitmaps !== undefined && { bitmaps }) }
}

function optionArguments(options: string): string[] {
  return options === '' ? [] : ['-o', options]
}

async function theirs(format: string, options: string, ...rest: string[]): Promise<unknown> {
  const args = ['measure', '--output=json', '-O', format, ...optionArguments(options), ...rest]
  const result = await tryQemuImg(args)
  return result.code === 0 ? JSON.parse(result.stdout) : result.stderr.trim()
}

async function ofSize(size: number, options: string): Promise<unknown> {
  try {
    return inJson(await measureQcow2({ size, options: optionsOf(options) }))
  } catch (error) {
    if (isMoraineError(error)) return `qemu-img: ${error.reason}`
    throw error
  }
}

async function ofDisk(path: string, format: string, options: string): Promise<unknown> {
  const source = await openForReading(path, format)
  try {
    return inJson(await measureQcow2({ size: 0, source, options: optionsOf(options) }))
  } finally {
    await source.close()
  }
}

const optionSets = [
  '',
  'cluster_size=512',
  'cluster_size=4k,refcount_bits=1',
  'cluster_size=2M,refcount_bits=64',
  'cluster_size=16k,extended_l2=on',
  'compat=0.10',
  'preallocation=metadata',
  'preallocation=full,refcount_bits=8',
]

describeWith(['qemu-img', 'qemu-io'], 'measure', () => {
  it('counts sizes as qemu-img does', async () => {
    const random = new Random(seed('measure sizes'))
    for (const options of optionSets) {
      const sizes = [0, 1, 1000, 2 ** 40, 2 ** 41 + 512, 2 ** random.int(9, 46) + random.int(0, 100_000)]
      for (const size of sizes) {
        expect(await ofSize(size, options), `${size} ${options}`).toEqual(
          await theirs('qcow2', options, '--size', `${size}`),
        )
      }
    }
  })

  it('counts the data of raw files as qemu-img does', async () => {
    const random = new Random(seed('measure raw'))
    for (const options of [...optionSets, 'backing_file=x,backing_fmt=raw']) {
      const path = folder.fresh('.raw')
      const size = random.int(1, 40 * 1024 * 1024)
      writeSparse(path, size, randomPieces(random, size, random.int(0, 12), 300_000))
      expect(await ofDisk(path, 'raw', options), options).toEqual(await theirs('qcow2', options, '-f', 'raw', path))
      const source = await openForReading(path, 'raw')
      expect(inJson(await measureImage(raw, { size: 0, source, options: {} }))).toEqual(
        await theirs('raw', '', '-f', 'raw', path),
      )
      await source.close()
    }
  })

  it('counts 10,000 pieces in a sparse terabyte', async () => {
    const path = folder.fresh('.raw')
    const random = new Random(seed('measure pieces'))
    const pieces: Piece[] = []
    for (let i = 0; i < 10_000; i++) {
      pieces.push({ offset: i * 104_857_600 + random.int(0, 1000) * 4096, bytes: new Uint8Array(4096).fill(1) })
    }
    writeSparse(path, 2 ** 40, pieces)
    expect(await ofDisk(path, 'raw', '')).toEqual(await theirs('qcow2', '', '-f', 'raw', path))
  })

  it('counts the data and bitmaps of a chain of qcow2 images', async () => {
    const base = folder.fresh('.qcow2')
    const top = folder.fresh('.qcow2')
    await qemuImg('create', '-f', 'qcow2', base, '10M')
    await qemuIo(base, 'qcow2', 'write 100k 70k', 'write -z 3M 1M', 'write 5M 4k')
    await qemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '30M')
    await qemuIo(top, 'qcow2', 'write 1M 64k', 'write -z 5M 64k', 'write 25M 130k')
    await qemuImg('bitmap', '--add', top, 'first')
    await qemuImg('bitmap', '--add', '-g', '512', top, 'second, with a longer näme')
    for (const options of [...optionSets, 'backing_file=x,backing_fmt=qcow2']) {
      expect(await ofDisk(top, 'qcow2', options), options).toEqual(await theirs('qcow2', options, '-f', 'qcow2', top))
    }
  })
})

describe('measureImage', () => {
  it('refuses a format that cannot tell', async () => {
    const { measure: _measure, ...silent } = raw
    await expect(measureImage(silent, { size: 1, options: {} })).rejects.toMatchObject({ kind: 'unsupported' })
    expect(findFormat(allFormats, 'qcow2')?.can.measure).toBe(true)
  })
})
