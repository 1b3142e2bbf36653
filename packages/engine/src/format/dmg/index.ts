/** DMG (UDIF), Apple's compressed disk images, read only: raw, zero, zlib, ADC, bzip2, LZFSE and LZMA chunks. Facts: the behaviour of QEMU 7.2. */

import { rareCodecs } from '../../codec/rare.ts'
import {
  type ByteSource,
  type Codecs,
  type Disk,
  type DiskInfo,
  MoraineError,
  type RareCodec,
} from '../../core/index.ts'
import { readOnly } from '../capabilities.ts'
import type { DiskFormat, OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import { type Chunk, chunkType, dmgFault, findTrailer, readUdif, type Udif } from './layout.ts'

/** The DMG format. QEMU goes by the name of the file. */
export const dmg: DiskFormat = {
  name: 'dmg',
  aliases: [],
  extensions: ['dmg'],
  can: readOnly,
  options: [],
  probe: ({ name, size, tail }) => {
    if (name.length > 4 && name.endsWith('.dmg')) return { score: 2, evidence: 'the name ends in .dmg' }
    if (findTrailer(tail, size) < 0) return undefined
    return { score: 80, evidence: 'a UDIF trailer ("koly") at the end', tail: true }
  },
  open: openDmg,
}

/** Opens an image for reading.
 *  @throws MoraineError `denied` for writing, `unsupported` for encrypted images, and what `readUdif` throws. */
async function openDmg(file: ByteSource, context: OpenContext): Promise<Disk> {
  if (context.mode === 'write') {
    throw new MoraineError('denied', 'Image is read-only', {
      path: file.name,
      format: 'dmg',
    })
  }
  const head = new Uint8Array(Math.min(8, file.size))
  await file.read(0, head)
  if (new TextDecoder('latin1').decode(head) === 'encrcdsa') {
    throw dmgFault(file.name, 'unsupported', 'encrypted DMG images cannot be read', { field: 'encrcdsa' })
  }
  const udif = await readUdif(file)
  if (udif.size > context.limits.virtualSize) {
    const place = { field: 'sector_count', value: udif.size, rule: `at most ${context.limits.virtualSize}` }
    throw dmgFault(file.name, 'limit', 'Image is too big', place)
  }
  return new DmgDisk(file, udif, context)
}

const packed: Readonly<Record<number, 'zlib' | RareCodec>> = {
  [chunkType.adc]: 'adc',
  [chunkType.zlib]: 'zlib',
  [chunkType.bzip2]: 'bzip2',
  [chunkType.lzfse]: 'lzfse',
  [chunkType.lzma]: 'xz',
}

class DmgDisk extends MappedDisk {
  readonly format = 'dmg'
  readonly size: number
  readonly #codecs: Codecs
  readonly #chunks: readonly Chunk[]

  constructor(file: ByteSource, { size, chunks }: Udif, context: OpenContext) {
    super(file, undefined)
    this.size = size
    this.#chunks = chunks
    this.#codecs = { ...rareCodecs, ...context.codecs }
  }

  protected override get codecs(): Codecs {
    return this.#codecs
  }

  protected override resolve(offset: number, length: number): MappedRun {
    const chunk = this.#chunkAt(offset)
    if (chunk === undefined) {
      throw this.fault('corrupt', 'no chunk holds this part of the disk', { field: 'chunk', value: offset })
    }
    const skip = offset - chunk.start
    const covered = Math.min(length, chunk.size - skip)
    if (chunk.type === chunkType.zero || chunk.type === chunkType.ignored)
      return { kind: 'zero', host: -1, length: covered }
    if (chunk.host + chunk.length > this.file.size) {
      throw this.fault('corrupt', 'a chunk lies outside the file', {
        field: 'chunk',
        offset: chunk.host,
        value: chunk.length,
        rule: `up to byte ${this.file.size}`,
      })
    }
    if (chunk.type === chunkType.raw) {
      if (skip >= chunk.length) return { kind: 'zero', host: -1, length: covered }
      return { kind: 'data', host: chunk.host + skip, length: Math.min(covered, chunk.length - skip) }
    }
    const codec = packed[chunk.type]
    if (codec === undefined) {
      const type = `0x${chunk.type.toString(16)}`
      throw this.fault('unsupported', `chunks of type ${type} cannot be read`, { field: 'chunk type', value: type })
    }
    const unit = { codec, packedLength: chunk.length, size: chunk.size, skip }
    return { kind: 'packed', host: chunk.host, length: covered, unit }
  }

  #chunkAt(offset: number): Chunk | undefined {
    let low = 0
    let high = this.#chunks.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const chunk = this.#chunks[middle] as Chunk
      if (chunk.start + chunk.size <= offset) low = middle + 1
      else high = middle
    }
    const chunk = this.#chunks[low]
    return chunk !== undefined && chunk.start <= offset ? chunk : undefined
  }

  info(): DiskInfo {
    return { format: 'dmg', virtualSize: this.size, snapshots: [] }
  }
}
