/** XXH32, the checksum of LZ4 frames, as bytes come. Fact: the xxHash specification, seed 0. */

const prime1 = 0x9e37_79b1
const prime2 = 0x85eb_ca77
const prime3 = 0xc2b2_ae3d
const prime4 = 0x27d4_eb2f
const prime5 = 0x1656_67b1

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by))
}

/** A checksum in the making. */
export class Xxh32 {
  readonly #lanes = new Int32Array([prime1 + prime2, prime2, 0, -prime1])
  readonly #rest = new Uint8Array(16)
  #held = 0
  #length = 0

  /** Takes more bytes. */
  update(bytes: Uint8Array): this {
    this.#length += bytes.length
    let at = 0
    if (this.#held > 0) {
      const part = bytes.subarray(0, 16 - this.#held)
      this.#rest.set(part, this.#held)
      this.#held += part.length
      at = part.length
      if (this.#held < 16) return this
      this.#mix(this.#rest, 0, 16)
    }
    const end = at + ((bytes.length - at) & ~15)
    this.#mix(bytes, at, end)
    this.#held = bytes.length - end
    this.#rest.set(bytes.subarray(end))
    return this
  }

  #mix(bytes: Uint8Array, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let [a, b, c, d] = this.#lanes as unknown as [number, number, number, number]
    for (let at = start; at < end; at += 16) {
      a = Math.imul(rotate((a + Math.imul(view.getUint32(at, true), prime2)) | 0, 13), prime1)
      b = Math.imul(rotate((b + Math.imul(view.getUint32(at + 4, true), prime2)) | 0, 13), prime1)
      c = Math.imul(rotate((c + Math.imul(view.getUint32(at + 8, true), prime2)) | 0, 13), prime1)
      d = Math.imul(rotate((d + Math.imul(view.getUint32(at + 12, true), prime2)) | 0, 13), prime1)
    }
    this.#lanes.set([a, b, c, d])
  }

  /** The checksum of all bytes taken, from 0 to 2^32 − 1. */
  digest(): number {
    const [a, b, c, d] = this.#lanes as unknown as [number, number, number, number]
    let hash = this.#length < 16 ? prime5 : rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18)
    hash = (hash + this.#length) | 0
    const view = new DataView(this.#rest.buffer)
    let at = 0
    for (; at + 4 <= this.#held; at += 4) {
      hash = Math.imul(rotate((hash + Math.imul(view.getUint32(at, true), prime3)) | 0, 17), prime4)
    }
    for (; at < this.#held; at++) {
      hash = Math.imul(rotate((hash + Math.imul(this.#rest[at] as number, prime5)) | 0, 11), prime1)
    }
    hash = Math.imul(hash ^ (hash >>> 15), prime2)
    hash = Math.imul(hash ^ (hash >>> 13), prime3)
    return (hash ^ (hash >>> 16)) >>> 0
  }
}
