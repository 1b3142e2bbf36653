/** Writing compressed grains: many small units, gathered into large writes. */
import { setU64le, viewOf } from '../../bytes/integers.ts'
import { adler32 } from '../../codec/adler32.ts'
import type { GrainWriter } from './grain-writer.ts'
import { fault } from './image.ts'
import { grainMarkerBytes, sectorBytes } from './layout.ts'

/** No less than the largest packed grain. */
const gatherBytes = 2 * 1024 * 1024

/** Stores compressed grains of one extent. One caller at a time. */
export class PackedGrains {
  readonly #writer: GrainWriter
  #gathered = new Uint8Array(0)
  #start = 0
  #length = 0
  #writing: Promise<void> | undefined

  constructor(writer: GrainWriter) {
    this.#writer = writer
  }

  /** Stores the grain at `at`, guest bytes in the extent.
   *  @throws MoraineError `invalid` when it is allocated already. */
  async write(at: number, packed: Uint8Array): Promise<void> {
    const { extent, store } = this.#writer
    const { grainBytes } = extent.shape
    const found = extent.resolve(at, Math.min(grainBytes, extent.shape.size - at))
    const run = found instanceof Promise ? await found : found
    if (run.kind === 'packed') {
      throw fault(store, 'io', 'Could not write to allocated cluster for streamOptimized', 'offset', {
        value: at,
        rule: 'each grain is written once',
        code: 'EIO',
      })
    }
    const bytes = grainMarkerBytes + packed.length
    const host = this.#writer.allocatePacked(bytes)
    await this.#gather(host, at / sectorBytes, packed)
    await this.#writer.link(at, 1, host)
  }

  async #gather(host: number, sector: number, packed: Uint8Array): Promise<void> {
    const length = Math.ceil((grainMarkerBytes + packed.length) / sectorBytes) * sectorBytes
    if (this.#length > 0 && (host !== this.#start + this.#length || this.#length + length > this.#gathered.length)) {
      await this.#hand()
    }
    if (this.#gathered.length < length) this.#gathered = new Uint8Array(Math.max(gatherBytes, length))
    if (this.#length === 0) this.#start = host
    writeGrain(this.#gathered.subarray(this.#length, this.#length + length), sector, packed)
    this.#length += length
  }

  /** Starts writing what was gathered; at most one such write is under way. */
  async #hand(): Promise<void> {
    await this.#writing
    const bytes = this.#gathered.subarray(0, this.#length)
    this.#gathered = new Uint8Array(0)
    this.#length = 0
    this.#writing = this.#writer.store.write(this.#start, bytes)
    // Whoever awaits it next gets the error; until then it must not count as unhandled.
    this.#writing.catch(() => {})
  }

  /** Returns when everything given so far has been written. */
  async flush(): Promise<void> {
    if (this.#length > 0) await this.#hand()
    await this.#writing
    this.#writing = undefined
  }
}

/** Lays out a compressed grain: its first sector's number, its length, the stream, zeros to the end of the sector. */
export function writeGrain(into: Uint8Array, sector: number, packed: Uint8Array): void {
  const view = viewOf(into)
  setU64le(view, 0, sector)
  view.setUint32(8, packed.length, true)
  into.set(packed, grainMarkerBytes)
  into.fill(0, grainMarkerBytes + packed.length)
}

const storedBlock = 0xffff

/** A zlib stream that holds its content as it is: what packing would make longer, and what is packed where there is no packer. Source: RFC 1950, RFC 1951 section 3.2.4. */
export function storedZlib(content: Uint8Array): Uint8Array {
  const blocks = Math.max(1, Math.ceil(content.length / storedBlock))
  const bytes = new Uint8Array(2 + 5 * blocks + content.length + 4)
  const view = viewOf(bytes)
  view.setUint16(0, 0x7801)
  let at = 2
  for (let block = 0; block < blocks; block++) {
    const part = content.subarray(block * storedBlock, (block + 1) * storedBlock)
    bytes[at] = block === blocks - 1 ? 1 : 0
    view.setUint16(at + 1, part.length, true)
    view.setUint16(at + 3, ~part.length & 0xffff, true)
    bytes.set(part, at + 5)
    at += 5 + part.length
  }
  view.setUint32(at, adler32(content))
  return bytes
}
