/** Digests of image data, made while it passes and compared with what the service says of the same bytes. */
import { createHash, getHashes, type Hash } from 'node:crypto'
import { Failure } from '../failure.ts'
import type { ImageDocument } from './images.ts'

/** What Glance's multihash is unless its operator chose another. */
const usual = 'sha512'

/** Digests by several algorithms at once. */
export class Digests {
  private readonly hashes: ReadonlyMap<string, Hash>
  private ended: ReadonlyMap<string, string> | undefined
  /** Bytes taken so far. */
  size = 0

  private constructor(names: readonly string[]) {
    this.hashes = new Map(names.map((name) => [name, createHash(name)]))
  }

  /** For data that goes out: the service tells only afterwards by what it hashed, but a new image shows whether it knows more than checksums. */
  static toSend(created: ImageDocument): Digests {
    return new Digests([Object.hasOwn(created, 'os_hash_algo') ? usual : 'md5'])
  }

  /** For data that comes: the best that the service knows of it, if anything. */
  static toCheck(image: ImageDocument): Digests {
    const { os_hash_algo: name, os_hash_value: value, checksum } = image
    if (isText(name) && isText(value) && getHashes().includes(name.toLowerCase()))
      return new Digests([name.toLowerCase()])
    return new Digests(isText(checksum) ? ['md5'] : [])
  }

  /** Whether there is anything to compare by. */
  get canCheck(): boolean {
    return this.hashes.size > 0
  }

  /** Takes the next bytes. */
  update(bytes: Uint8Array): void {
    for (const hash of this.hashes.values()) hash.update(bytes)
    this.size += bytes.length
  }

  /** Takes bytes of which some may have been taken before.
   *  @param offset where they begin; not behind what was taken */
  updateFrom(offset: number, bytes: Uint8Array): void {
    const known = this.size - offset
    if (known < bytes.length) this.update(bytes.subarray(Math.max(0, known)))
  }

  /** Compares with what the service says; `false` when it says nothing that can be compared.
   *  @throws Failure when it is of other bytes. */
  check({ os_hash_algo: name, os_hash_value: value, checksum, size }: ImageDocument): boolean {
    if (typeof size === 'number' && size !== this.size) {
      throw new Failure(`the image data is not what the service has: ${this.size} bytes here, ${size} bytes there`)
    }
    this.ended ??= new Map([...this.hashes].map(([one, hash]) => [one, hash.digest('hex')]))
    const said: [string, unknown][] = [
      ...(isText(name) ? [[name.toLowerCase(), value] as [string, unknown]] : []),
      ['md5', checksum],
    ]
    for (const [algorithm, there] of said) {
      const here = this.ended.get(algorithm)
      if (here === undefined || !isText(there)) continue
      if (here === there.toLowerCase()) return true
      throw new Failure(`the image data is not what the service has: ${algorithm} is ${here} here, ${there} there`)
    }
    return false
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
