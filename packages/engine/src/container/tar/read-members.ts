/** The members of a tar archive, by their headers: what they hold is not read. */
import { roundUp } from '../../bytes/integers.ts'
import { type ByteSource, isMoraineError, MoraineError, throwIfCancelled } from '../../core/index.ts'
import {
  isTarHeader,
  readPaxRecords,
  readSparseBlock,
  readTarHeader,
  type TarHeader,
  type TarRun,
  tarBlock,
} from './header.ts'

/** What a member is. */
export type TarMemberType = 'file' | 'folder' | 'symlink' | 'hardlink' | 'device' | 'other'

/** One member. */
export interface TarMember {
  name: string
  type: TarMemberType
  /** Bytes of the file, holes counted. */
  size: number
  /** Byte offset of its header, extended headers counted, and of what it stores. */
  start: number
  offset: number
  /** Bytes that are stored for it. */
  stored: number
  /** What is stored of a sparse file, in order; `offset` counts in the file. */
  runs?: readonly TarRun[] | undefined
  /** What a link leads to. */
  link: string
  mode: number
  /** Seconds since 1970. */
  modified: number
}

/** How an archive ended. */
export interface TarEnd {
  /** Where the blocks of zeros begin. */
  offset: number
  /** Blocks of zeros: two by the standard. */
  zeroBlocks: number
}

const mostMembers = 100_000
const mostExtended = 1024 * 1024
const mostRuns = 1_000_000
const windowBytes = 16 * 1024

const types: Readonly<Record<string, TarMemberType>> = {
  '0': 'file',
  '7': 'file',
  S: 'file',
  '5': 'folder',
  '2': 'symlink',
  '1': 'hardlink',
  '3': 'device',
  '4': 'device',
  '6': 'device',
}

interface Extended {
  name?: string
  link?: string
  size?: number
  pax: Map<string, string>
  sparseMap: TarRun[]
}

/** Goes through the members of an archive. What it yields lies wholly within the source.
 *  @returns how it ended
 *  @throws MoraineError `corrupt` for headers that are none, sizes that pass the end and archives that stop in the middle; `limit`. */
export async function* readTarMembers(source: ByteSource, signal?: AbortSignal): AsyncGenerator<TarMember, TarEnd> {
  const walk = new Walk(source, signal)
  let count = 0
  for (;;) {
    const member = await walk.next()
    if (!('name' in member)) return member
    count++
    if (count > mostMembers) {
      throw new MoraineError('limit', 'the tar has too many members', {
        path: source.name,
        field: 'members',
        value: count,
        rule: `at most ${mostMembers}`,
      })
    }
    yield member
  }
}

class Walk {
  readonly #source: ByteSource
  readonly #signal: AbortSignal | undefined
  readonly #global = new Map<string, string>()
  #window = { offset: 0, bytes: new Uint8Array(0) }
  #at = 0
  #start = 0

  constructor(source: ByteSource, signal: AbortSignal | undefined) {
    this.#source = source
    this.#signal = signal
  }

  async next(): Promise<TarMember | TarEnd> {
    this.#start = this.#at
    try {
      return await this.#next()
    } catch (error) {
      if (!isMoraineError(error) || error.path !== undefined) throw error
      throw new MoraineError(error.kind, error.reason, {
        ...error,
        path: this.#source.name,
        offset: this.#start,
        cause: error,
      })
    }
  }

  async #next(): Promise<TarMember | TarEnd> {
    const extended: Extended = { pax: new Map(), sparseMap: [] }
    let began = false
    for (;;) {
      throwIfCancelled(this.#signal, this.#source.name)
      const block = await this.#block()
      if (block === undefined || isZero(block)) {
        if (began) throw new MoraineError('corrupt', 'the tar ends behind an extended header, before its member')
        return { offset: this.#start, zeroBlocks: block === undefined ? 0 : await this.#countZeros() }
      }
      if (!isTarHeader(block)) {
        throw new MoraineError('corrupt', this.#start === 0 ? 'it is no tar' : 'a header of the tar is damaged', {
          field: 'checksum',
          rule: 'that of the header',
        })
      }
      const header = readTarHeader(block)
      if (!(await this.#extend(header, extended))) return await this.#member(header, extended)
      began = true
    }
  }

  /** Takes up an extended header; false for a member's own. */
  async #extend(header: TarHeader, extended: Extended): Promise<boolean> {
    if (!'LKxgXV'.includes(header.type)) return false
    if (header.size > mostExtended) {
      throw new MoraineError('limit', 'an extended header of the tar is too large', {
        field: 'size',
        value: header.size,
        rule: `at most ${mostExtended}`,
      })
    }
    const bytes = await this.#content(header.size)
    if (header.type === 'L') extended.name = textOf(bytes)
    else if (header.type === 'K') extended.link = textOf(bytes)
    else if (header.type !== 'V') {
      for (const [key, value] of readPaxRecords(bytes)) this.#record(header.type, key, value, extended)
    }
    return true
  }

  #record(type: string, key: string, value: string, extended: Extended): void {
    // What is said for all members counts until it is said otherwise.
    if (type === 'g') {
      if (key !== 'size' && !key.startsWith('GNU.sparse.')) this.#global.set(key, value)
      return
    }
    extended.pax.set(key, value)
    const last = extended.sparseMap.at(-1)
    if (key === 'GNU.sparse.offset') extended.sparseMap.push({ offset: decimal(value, key), length: 0 })
    else if (key === 'GNU.sparse.numbytes' && last !== undefined) last.length = decimal(value, key)
  }

  async #member(header: TarHeader, extended: Extended): Promise<TarMember> {
    const { pax } = extended
    const stated = pax.get('size')
    const type = types[header.type] ?? 'other'
    // Links and folders hold nothing, whatever their size says; hard links of pax may.
    const stored =
      type === 'file' || type === 'other' || stated !== undefined
        ? stated === undefined
          ? header.size
          : decimal(stated, 'size')
        : 0
    const { sparse } = header
    while (sparse?.more === true) {
      const block = await this.#block()
      if (block === undefined) throw new MoraineError('corrupt', 'the tar ends in the map of a sparse file')
      const further = readSparseBlock(block)
      sparse.runs.push(...further.runs)
      sparse.more = further.more
      boundRuns(sparse.runs.length)
    }
    const member: TarMember = {
      name: pax.get('GNU.sparse.name') ?? pax.get('path') ?? this.#global.get('path') ?? extended.name ?? header.name,
      type,
      size: stored,
      start: this.#start,
      offset: this.#at,
      stored,
      link: pax.get('linkpath') ?? extended.link ?? header.link,
      mode: header.mode,
      modified: header.modified,
    }
    if (this.#at + stored > this.#source.size) {
      throw new MoraineError('corrupt', `the member '${member.name}' passes the end of the tar`, {
        field: 'size',
        value: stored,
        rule: `at most ${Math.max(0, this.#source.size - this.#at)}`,
      })
    }
    this.#at = Math.min(this.#source.size, roundUp(this.#at + stored, tarBlock))
    if (sparse !== undefined) return this.#sparse(member, sparse.size, sparse.runs)
    return await this.#paxSparse(member, extended)
  }

  /** Sparse files of pax: versions 0.0, 0.1 and 1.0 of GNU. */
  async #paxSparse(member: TarMember, { pax, sparseMap }: Extended): Promise<TarMember> {
    const map = pax.get('GNU.sparse.map')
    const size = pax.get('GNU.sparse.realsize') ?? pax.get('GNU.sparse.size')
    if (pax.get('GNU.sparse.major') === '1') {
      const { runs, bytes } = await this.#storedMap(member)
      const inner = { ...member, offset: member.offset + bytes, stored: member.stored - bytes }
      return this.#sparse(inner, decimal(size ?? '', 'GNU.sparse.realsize'), runs)
    }
    if (map === undefined && sparseMap.length === 0) return member
    const numbers = map === undefined ? [] : map.split(',').map((text) => decimal(text, 'GNU.sparse.map'))
    boundRuns(numbers.length / 2)
    const runs = map === undefined ? sparseMap : pairsOf(numbers)
    return this.#sparse(member, decimal(size ?? '', 'GNU.sparse.size'), runs)
  }

  /** The map that stands before the data: decimal numbers, one a line, filled up to a whole block. */
  async #storedMap(member: TarMember): Promise<{ runs: TarRun[]; bytes: number }> {
    const numbers: number[] = []
    let text = ''
    let bytes = 0
    for (let wanted = 1; numbers.length < wanted; ) {
      if (bytes + tarBlock > member.stored) throw new MoraineError('corrupt', 'the map of a sparse file passes its end')
      const block = await this.#read(member.offset + bytes, tarBlock)
      bytes += tarBlock
      text += String.fromCharCode(...block)
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) {
        if (numbers.length >= wanted) break
        numbers.push(decimal(line, 'map'))
        if (numbers.length === 1) {
          boundRuns(numbers[0] ?? 0)
          wanted = 1 + 2 * (numbers[0] ?? 0)
        }
      }
    }
    return { runs: pairsOf(numbers.slice(1)), bytes }
  }

  #sparse(member: TarMember, size: number, given: readonly TarRun[]): TarMember {
    const runs = given.filter(({ length }) => length > 0)
    let end = 0
    let stored = 0
    for (const { offset, length } of runs) {
      if (offset < end || offset + length > size) {
        throw new MoraineError('corrupt', `the map of the sparse member '${member.name}' has no sense`, {
          field: 'piece',
          value: `${offset}+${length}`,
          rule: `from ${end} to ${size}`,
        })
      }
      end = offset + length
      stored += length
    }
    if (stored > member.stored) {
      throw new MoraineError('corrupt', `the map of the sparse member '${member.name}' is of more than is stored`, {
        field: 'bytes',
        value: stored,
        rule: `at most ${member.stored}`,
      })
    }
    return { ...member, size, runs }
  }

  async #block(): Promise<Uint8Array | undefined> {
    const left = this.#source.size - this.#at
    if (left <= 0) return undefined
    if (left < tarBlock)
      throw new MoraineError('corrupt', 'the tar ends in the middle of a block', {
        field: 'bytes',
        value: left,
        rule: `${tarBlock}`,
      })
    const block = await this.#read(this.#at, tarBlock)
    this.#at += tarBlock
    return block
  }

  async #content(length: number): Promise<Uint8Array> {
    if (this.#at + length > this.#source.size)
      throw new MoraineError('corrupt', 'an extended header passes the end of the tar', {
        field: 'size',
        value: length,
      })
    const bytes = await this.#read(this.#at, length)
    this.#at = Math.min(this.#source.size, roundUp(this.#at + length, tarBlock))
    return bytes
  }

  /** Reads somewhat more than is asked, as what follows is asked for next: small files and headers stand together. */
  async #read(offset: number, length: number): Promise<Uint8Array> {
    const window = this.#window
    if (offset < window.offset || offset + length > window.offset + window.bytes.length) {
      const bytes = new Uint8Array(Math.min(this.#source.size - offset, Math.max(length, windowBytes)))
      await this.#source.read(offset, bytes, this.#signal)
      this.#window = { offset, bytes }
    }
    const from = offset - this.#window.offset
    return this.#window.bytes.slice(from, from + length)
  }

  async #countZeros(): Promise<number> {
    let count = 1
    while (count < 2 && this.#at + tarBlock <= this.#source.size) {
      const block = await this.#block()
      if (block === undefined || !isZero(block)) break
      count++
    }
    return count
  }
}

function isZero(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0)
}

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
}

function decimal(text: string, field: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(value)) return value
  throw new MoraineError('corrupt', 'a pax header of the tar has a wrong number', {
    field,
    value: text.slice(0, 40),
    rule: 'decimal digits',
  })
}

function boundRuns(count: number): void {
  if (count <= mostRuns) return
  throw new MoraineError('limit', 'the map of a sparse file is too long', {
    field: 'pieces',
    value: count,
    rule: `at most ${mostRuns}`,
  })
}

function pairsOf(numbers: readonly number[]): TarRun[] {
  const runs: TarRun[] = []
  for (let index = 0; index + 1 < numbers.length; index += 2) {
    runs.push({ offset: numbers[index] ?? 0, length: numbers[index + 1] ?? 0 })
  }
  return runs
}
