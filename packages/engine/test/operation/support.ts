/** What the tests of operations share: disks over files, sparse content, and what the real qemu-img writes. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { allFormats } from '../../src/format/all.ts'
import {
  type Disk,
  type DiskFormat,
  isWritable,
  MoraineError,
  type OptionValues,
  openDisk,
  type WritableDisk,
  type ZeroMode,
} from '../../src/index.ts'
import { createImage } from '../../src/operation/index.ts'
import { fileGate, nodeCodecs, openFile } from '../../src/platform/node/index.ts'
import { tryQemuImg } from '../support/qemu.ts'
import type { Random } from '../support/random.ts'

/** Opens an image for reading. */
export async function openForReading(path: string, format: string): Promise<Disk> {
  return openDisk(await openFile(path), { formats: allFormats, format, gate: fileGate(), codecs: nodeCodecs })
}

/** Opens an image for writing. */
export async function openForWriting(path: string, format: string): Promise<WritableDisk> {
  const disk = await openDisk(await openFile(path, { mode: 'write', sync: 'unsafe' }), {
    formats: allFormats,
    format,
    mode: 'write',
    gate: fileGate(),
    codecs: nodeCodecs,
  })
  if (!isWritable(disk)) throw new Error(`${path} is not writable`)
  return disk
}

/** Creates an image and opens it for writing. */
export async function newImage(
  path: string,
  format: DiskFormat,
  size: number,
  options: OptionValues = {},
  backing?: { name: string; format: string },
): Promise<WritableDisk> {
  const store = await openFile(path, { mode: 'write', create: true, sync: 'unsafe' })
  try {
    const sibling = (): never => {
      throw new MoraineError('denied', 'no further file')
    }
    await createImage({ store, sibling }, format, { size: BigInt(size), options, ...(backing && { backing }) })
  } finally {
    await store.close()
  }
  return openForWriting(path, format.name)
}

/** A piece of content at an offset. */
export interface Piece {
  offset: number
  bytes: Uint8Array
}

/** Writes a sparse raw file. */
export function writeSparse(path: string, size: number, pieces: readonly Piece[]): void {
  const descriptor = openSync(path, 'w')
  try {
    ftruncateSync(descriptor, size)
    for (const { offset, bytes } of pieces) writeSync(descriptor, bytes, 0, bytes.length, offset)
  } finally {
    closeSync(descriptor)
  }
}

/** Pieces of a file system's kind: stretches of content with stretches of zeros in them, at offsets of all alignments. */
export function randomPieces(random: Random, size: number, count: number, largest: number): Piece[] {
  const pieces: Piece[] = []
  for (let i = 0; i < count; i++) {
    const length = random.int(1, random.bool(0.3) ? largest : Math.min(largest, 20_000))
    const align = random.pick([1, 512, 4096, 65_536])
    const offset = Math.floor(random.int(0, Math.max(0, size - length)) / align) * align
    const bytes = random.bytes(Math.min(length, size - offset))
    for (let holes = random.int(0, 6); holes > 0; holes--) {
      const unit = random.pick([1, 512, 512, 4096])
      const start = Math.floor(random.int(0, bytes.length) / unit) * unit
      bytes.fill(0, start, start + random.int(0, 40) * unit)
    }
    pieces.push({ offset, bytes })
  }
  return pieces
}

/** One write, as the format layer of the target gets it. */
export interface Write {
  offset: number
  length: number
  zero: boolean
}

/** The writes of a real `qemu-img convert`, in order, from its trace. */
export async function qemuWrites(args: readonly string[]): Promise<Write[]> {
  const result = await tryQemuImg(['-T', 'enable=blk_co_pwritev', 'convert', ...args])
  if (result.code !== 0) throw new Error(`qemu-img convert ${args.join(' ')}: ${result.stderr}`)
  return [...result.stderr.matchAll(/^blk_co_pwritev .* offset (\d+) bytes (\d+) flags 0x([0-9a-f]+)$/gm)].map(
    ([, offset, length, flags]) => ({
      offset: Number(offset),
      length: Number(length),
      zero: (Number.parseInt(flags ?? '0', 16) & 2) !== 0,
    }),
  )
}

/** Notes what is written into a disk, in order of the calls. */
export function recorded(disk: WritableDisk): { disk: WritableDisk; writes: Write[] } {
  const writes: Write[] = []
  const note = new Proxy(disk, {
    get(target, key) {
      if (key === 'write') {
        return (offset: number, bytes: Uint8Array, signal?: AbortSignal) => {
          writes.push({ offset, length: bytes.length, zero: false })
          return target.write(offset, bytes, signal)
        }
      }
      if (key === 'zero') {
        return (offset: number, length: number, mode: ZeroMode, signal?: AbortSignal) => {
          writes.push({ offset, length, zero: true })
          return target.zero(offset, length, mode, signal)
        }
      }
      // In-kernel copies would go past the record.
      if (key === 'copyFrom') return undefined
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  return { disk: note, writes }
}
