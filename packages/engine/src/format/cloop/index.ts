/** cloop, the compressed loop device's images (version 2), read only: blocks of zlib streams behind a table of offsets. Facts: the behaviour of QEMU 7.2. */
import { u64be, viewOf } from '../../bytes/integers.ts'
import {
  type ByteSource,
  type Codecs,
  type Disk,
  type DiskInfo,
  type ErrorKind,
  MoraineError,
  readPadded,
} from '../../core/index.ts'
import { readOnly } from '../capabilities.ts'
import type { DiskFormat, OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'

/** What an image begins with: it is a shell script, too. */
const magic = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n'
/** Byte offset of the table of offsets; block size and count stand before it. */
const tableStart = 136
const mostBlockBytes = 64 * 1024 * 1024
const mostTableBytes = 512 * 1024 * 1024
/** Entries of one page of the table. */
const pageEntries = 4096

function looksLikeCloop(head: Uint8Array): boolean {
  return head.length >= magic.length && new TextDecoder('latin1').decode(head.subarray(0, magic.length)) === magic
}

/** The cloop format. */
export const cloop: DiskFormat = {
  name: 'cloop',
  aliases: [],
  extensions: ['cloop'],
  can: readOnly,
  options: [],
  probe: ({ head }) => (looksLikeCloop(head) ? { score: 2, evidence: 'the script of cloop 2.0' } : undefined),
  open: openCloop,
}

/** Opens an image for reading; the words of refusals are QEMU's.
 *  @throws MoraineError `denied` for writing, `invalid` and `limit` for a header that breaks a rule, `corrupt` when the file ends within the table. */
async function openCloop(file: ByteSource, context: OpenContext): Promise<Disk> {
  const refuse = (kind: ErrorKind, field: string, value: number, reason: string, rule: string): never => {
    throw new MoraineError(kind, reason, { path: file.name, format: 'cloop', field, value, rule })
  }
  if (context.mode === 'write') {
    throw new MoraineError('denied', 'Image is read-only', {
      path: file.name,
      format: 'cloop',
    })
  }
  const bytes = new Uint8Array(tableStart)
  await readPadded(file, 0, bytes)
  const view = viewOf(bytes)
  const blockSize = view.getUint32(128)
  const blocks = view.getUint32(132)
  if (blockSize === 0) refuse('invalid', 'block_size', 0, 'block_size cannot be zero', '512 at least')
  if (blockSize % 512 !== 0) {
    refuse('invalid', 'block_size', blockSize, `block_size ${blockSize} must be a multiple of 512`, 'a multiple of 512')
  }
  if (blockSize > mostBlockBytes) {
    refuse('invalid', 'block_size', blockSize, `block_size ${blockSize} must be 64 MB or less`, 'at most 64 MiB')
  }
  const tableBytes = (blocks + 1) * 8
  const mostBlocks = Math.floor((0xffff_ffff - 8) / 8)
  if (blocks > mostBlocks) {
    refuse('invalid', 'n_blocks', blocks, `n_blocks ${blocks} must be ${mostBlocks} or less`, `at most ${mostBlocks}`)
  }
  if (tableBytes > mostTableBytes) {
    const reason = 'image requires too many offsets, try increasing block size'
    refuse('limit', 'n_blocks', blocks, reason, 'a table of at most 512 MiB')
  }
  if (tableStart + tableBytes > file.size) {
    const rule = `a table up to byte ${tableStart + tableBytes} in a file of ${file.size}`
    refuse('corrupt', 'n_blocks', blocks, 'the file ends within the table of offsets', rule)
  }
  return new CloopDisk(file, context, blockSize, blocks)
}

class CloopDisk extends MappedDisk {
  readonly format = 'cloop'
  readonly size: number
  readonly #blockSize: number
  readonly #blocks: number
  readonly #context: OpenContext
  /** Pages of the table, the one used longest ago first. */
  readonly #pages = new Map<number, Uint8Array>()

  constructor(file: ByteSource, context: OpenContext, blockSize: number, blocks: number) {
    super(file, undefined)
    this.#context = context
    this.#blockSize = blockSize
    this.#blocks = blocks
    this.size = blockSize * blocks
  }

  protected override get codecs(): Codecs {
    return this.#context.codecs
  }

  protected override async resolve(offset: number, length: number): Promise<MappedRun> {
    const block = Math.floor(offset / this.#blockSize)
    const start = await this.#offsetOf(block)
    const end = await this.#offsetOf(block + 1)
    const place = { field: 'offsets', offset: tableStart + block * 8, value: start }
    if (end < start || !Number.isSafeInteger(end)) {
      const reason = `offsets not monotonically increasing at index ${block + 1}, image file is corrupt`
      throw this.fault('corrupt', reason, { ...place, rule: `at most ${end}` })
    }
    if (end > this.file.size) {
      throw this.fault('corrupt', `block ${block} lies outside the file`, {
        ...place,
        rule: `at most ${this.file.size}`,
      })
    }
    if (end - start > 2 * mostBlockBytes) {
      const reason = `invalid compressed block size at index ${block + 1}, image file is corrupt`
      throw this.fault('corrupt', reason, { ...place, rule: 'at most 128 MiB' })
    }
    const skip = offset - block * this.#blockSize
    const unit = { codec: 'zlib', packedLength: end - start, size: this.#blockSize, skip } as const
    return { kind: 'packed', host: start, length: Math.min(length, this.#blockSize - skip), unit }
  }

  /** Where the block `index` begins, or the last one ends. */
  async #offsetOf(index: number): Promise<number> {
    const number = Math.floor(index / pageEntries)
    let page = this.#pages.get(number)
    if (page === undefined) {
      const first = number * pageEntries
      page = new Uint8Array(Math.min(pageEntries, this.#blocks + 1 - first) * 8)
      await this.file.read(tableStart + first * 8, page)
      this.#pages.set(number, page)
      const oldest = this.#pages.keys().next().value
      if (this.#pages.size > 64 && oldest !== undefined) this.#pages.delete(oldest)
    }
    return u64be(viewOf(page), (index - number * pageEntries) * 8)
  }

  info(): DiskInfo {
    return { format: 'cloop', virtualSize: this.size, snapshots: [] }
  }
}
