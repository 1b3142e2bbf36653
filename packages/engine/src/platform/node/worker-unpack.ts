/** The task `unpack`: large reads, one decoding after another, large writes that leave zeros out. */
import { allocatedRun } from '../../bytes/zero.ts'
import { MoraineError, type Unpack } from '../../core/index.ts'
import { type UnpackFile, type UnpackInput, type UnpackOutput, unpackNumbers } from '../worker-pool.ts'
import { nodeCodecs } from './codecs.ts'
import { readFully, writeFully } from './worker-files.ts'

/* Packed bytes read at once, and decoded bytes written at once. What lies between two units (markers, padding, a table now and then) is read with them up to
 * `gapBytes`. */
const readBytes = 1024 * 1024
const gapBytes = 8192
const writeBytes = 2 * 1024 * 1024

/** Decodes units as `UnpackInput` says.
 *  @throws MoraineError `corrupt` with the offset of the unit, `io`, `unsupported`. */
export function unpackUnits(input: UnpackInput): UnpackOutput {
  const sink = 'buffer' in input.to ? new BufferSink(input.to.buffer) : new FileSink(input.to, input.unitBytes)
  const reader = new UnitReader(input)
  for (let at = 0; at < input.units.length; at += unpackNumbers) {
    const target = input.units[at + 2] as number
    const skip = input.units[at + 3] as number
    const length = input.units[at + 4] as number
    const into = sink.room(target, length)
    if (skip === 0 && length === input.unitBytes) reader.decode(at, into)
    else into.set(reader.decodeWhole(at).subarray(skip, skip + length))
  }
  return sink.end()
}

/* A worker does one task at a time, so that one buffer of a kind serves all. With a new one for each task, 60 MB lay about in each worker before they
 * were collected. */
let packedRoom = new Uint8Array(0)
let staging = new Uint8Array(0)

/** Reads packed units, several at a time where they lie side by side, and decodes them. */
class UnitReader {
  readonly #input: UnpackInput
  readonly #unpack: Unpack
  #packed = packedRoom
  /** What `#packed` holds: bytes of the file from `#start`, `#length` of them. */
  #start = 0
  #length = 0
  #whole: Uint8Array | undefined
  /** Where the unit in `#whole` lies in the file. */
  #wholeAt = -1

  constructor(input: UnpackInput) {
    this.#input = input
    const codec = nodeCodecs[input.codec]
    if (codec === undefined) throw new MoraineError('unsupported', `no codec for ${input.codec}`)
    this.#unpack = codec.unpack
  }

  /** Decodes the unit whose numbers begin at `at`. */
  decode(at: number, into: Uint8Array): void {
    const offset = this.#input.units[at] as number
    const length = this.#input.units[at + 1] as number
    if (offset < this.#start || offset + length > this.#start + this.#length) this.#read(at, offset, length)
    const from = offset - this.#start
    try {
      this.#unpack(this.#packed.subarray(from, from + length), into)
    } catch (error) {
      if (!(error instanceof MoraineError)) throw error
      const { kind, reason, field, rule } = error
      throw new MoraineError(kind, reason, { path: this.#input.sourceName, offset, field, rule })
    }
  }

  /** Decodes a unit of which a part is wanted; parts of the same unit often follow each other. */
  decodeWhole(at: number): Uint8Array {
    this.#whole ??= new Uint8Array(this.#input.unitBytes)
    const offset = this.#input.units[at] as number
    if (this.#wholeAt !== offset) {
      this.#wholeAt = -1
      this.decode(at, this.#whole)
      this.#wholeAt = offset
    }
    return this.#whole
  }

  #read(at: number, offset: number, length: number): void {
    const { units, source, sourceName } = this.#input
    let end = offset + length
    for (let next = at + unpackNumbers; next < units.length; next += unpackNumbers) {
      const nextOffset = units[next] as number
      const nextEnd = nextOffset + (units[next + 1] as number)
      // Reserved lengths are whole sectors, so that neighbours overlap.
      if (nextOffset < offset || nextOffset > end + gapBytes || nextEnd > offset + readBytes) break
      end = Math.max(end, nextEnd)
    }
    if (this.#packed.length < end - offset) {
      packedRoom = new Uint8Array(Math.max(end - offset, readBytes))
      this.#packed = packedRoom
    }
    readFully(source, sourceName, offset, this.#packed.subarray(0, end - offset))
    this.#start = offset
    this.#length = end - offset
  }
}

class BufferSink {
  readonly #buffer: ArrayBuffer

  constructor(buffer: ArrayBuffer) {
    this.#buffer = buffer
  }

  room(offset: number, length: number): Uint8Array {
    return new Uint8Array(this.#buffer, offset, length)
  }

  end(): UnpackOutput {
    return { buffer: this.#buffer, written: new Float64Array(), zeros: new Float64Array() }
  }
}

/** Gathers what lies side by side and writes it, but for blocks of zeros. */
class FileSink {
  readonly #file: UnpackFile
  readonly #staged: Uint8Array
  #start = 0
  #length = 0
  readonly #written: number[] = []
  readonly #zeros: number[] = []

  constructor(file: UnpackFile, unitBytes: number) {
    this.#file = file
    this.#staged = stagingRoom(Math.max(writeBytes, unitBytes))
  }

  room(offset: number, length: number): Uint8Array {
    if (offset !== this.#start + this.#length || this.#length + length > this.#staged.length) {
      this.#flush()
      this.#start = offset
    }
    const from = this.#length
    this.#length += length
    return this.#staged.subarray(from, from + length)
  }

  end(): UnpackOutput {
    this.#flush()
    return { written: Float64Array.from(this.#written), zeros: Float64Array.from(this.#zeros) }
  }

  #flush(): void {
    const { sparseBytes } = this.#file
    const end = this.#length
    for (let at = 0; at < end; ) {
      const run = this.#runFrom(at, end, sparseBytes)
      if (run.zero) note(this.#zeros, this.#start + at, run.length)
      else this.#write(at, run.length)
      at += run.length
    }
    this.#length = 0
  }

  /** The blocks from `at` on that are alike; a first block may have begun before `at`. */
  #runFrom(at: number, end: number, sparseBytes: number): { zero: boolean; length: number } {
    if (sparseBytes === 0) return { zero: false, length: end - at }
    const inBlock = (this.#start + at) % sparseBytes
    if (inBlock === 0) return allocatedRun(this.#staged, at, end, sparseBytes)
    return allocatedRun(this.#staged, at, Math.min(end, at + sparseBytes - inBlock), sparseBytes)
  }

  #write(at: number, length: number): void {
    const offset = this.#start + at
    writeFully(this.#file.descriptor, this.#file.name, offset, this.#staged.subarray(at, at + length))
    note(this.#written, offset, length)
  }
}

function stagingRoom(bytes: number): Uint8Array {
  if (staging.length < bytes) staging = new Uint8Array(bytes)
  return staging
}

/** Adds a range to a list of offsets and lengths, to the last range where it follows that. */
function note(ranges: number[], offset: number, length: number): void {
  const last = ranges.length - 2
  if (last >= 0 && (ranges[last] as number) + (ranges[last + 1] as number) === offset) {
    ranges[last + 1] = (ranges[last + 1] as number) + length
  } else ranges.push(offset, length)
}
