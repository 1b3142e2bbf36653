/** One pass over an upload: the bytes go into the store and through the hashes while they arrive, in a fixed amount of memory. */
import { UploadBuffers } from './buffers.ts'
import type { HashAlgorithm, Verification } from './hash-protocol.ts'
import type { HashThreads, StreamHash } from './hashing.ts'
import type { StoreUpload } from './store.ts'

/** Buffers of one upload: one that fills, and some on their way through hashes and disk. */
const bufferCount = 4

export interface IntakeOptions {
  hashes: HashThreads
  algorithms: readonly HashAlgorithm[]
  /** A signature that is checked, too. */
  verification?: Verification | undefined
  /** Called once with the first bytes, up to `headBytes` of them (fewer when the data is shorter), as soon as they are there. May throw to refuse. */
  onHead(head: Uint8Array): Promise<void>
  headBytes: number
  /** Called with each piece's length before it is taken. May throw to refuse. */
  onBytes(length: number): void | Promise<void> | undefined
}

export interface Intake {
  size: number
  digests: Record<HashAlgorithm, string>
  /** False: the signature is not that of the data. */
  isSigned: boolean
}

/** Takes in a whole body; `target` is for the caller to commit or abort. */
export async function takeIn(
  body: AsyncIterable<Uint8Array>,
  target: StoreUpload,
  options: IntakeOptions,
): Promise<Intake> {
  const pipeline = new Pipeline(target, options)
  try {
    for await (const bytes of body) {
      // Mostly there is nothing to wait for.
      const known = options.onBytes(bytes.length)
      if (known !== undefined) await known
      await pipeline.take(bytes)
    }
    return await pipeline.finish()
  } catch (error) {
    await pipeline.stop()
    throw error
  }
}

class Pipeline {
  readonly #target: StoreUpload
  readonly #options: IntakeOptions
  readonly #hashes: Map<HashAlgorithm | 'signature', StreamHash>
  readonly #buffers = new UploadBuffers(bufferCount)
  #filling: Uint8Array | undefined
  #filled = 0
  #size = 0
  #headSeen = false
  /** The last buffer's way through the store; the next one's begins after it. */
  #written: Promise<void> = Promise.resolve()
  readonly #inFlight = new Set<Promise<void>>()
  #failure: { error: unknown } | undefined

  constructor(target: StoreUpload, options: IntakeOptions) {
    this.#target = target
    this.#options = options
    const { hashes, verification } = options
    this.#hashes = new Map(options.algorithms.map((name) => [name, hashes.start(name)]))
    if (verification !== undefined) this.#hashes.set('signature', hashes.start(verification))
  }

  async take(bytes: Uint8Array): Promise<void> {
    let at = 0
    while (at < bytes.length) {
      this.#filling ??= new Uint8Array(await this.#buffer())
      const { length } = this.#filling
      const count = Math.min(bytes.length - at, length - this.#filled)
      this.#filling.set(bytes.subarray(at, at + count), this.#filled)
      this.#filled += count
      at += count
      if (this.#size === 0 && this.#filled >= this.#options.headBytes) await this.#showHead()
      if (this.#filled === length) this.#send()
    }
  }

  async finish(): Promise<Intake> {
    if (!this.#headSeen) await this.#showHead()
    if (this.#filled > 0) this.#send()
    await Promise.all(this.#inFlight)
    this.#buffers.release()
    if (this.#failure !== undefined) throw this.#failure.error
    const digests: Partial<Record<HashAlgorithm | 'signature', string>> = {}
    for (const [name, hash] of this.#hashes) digests[name] = await hash.digest()
    const isSigned = (digests.signature ?? 'good') === 'good'
    return { size: this.#size, digests: digests as Record<HashAlgorithm, string>, isSigned }
  }

  /** Waits until nothing touches the target any more. */
  async stop(): Promise<void> {
    await Promise.allSettled(this.#inFlight)
    this.#buffers.release()
    for (const hash of this.#hashes.values()) hash.drop()
  }

  async #showHead(): Promise<void> {
    if (this.#headSeen) return
    this.#headSeen = true
    const head = this.#filling?.subarray(0, Math.min(this.#filled, this.#options.headBytes))
    await this.#options.onHead(head === undefined ? new Uint8Array(0) : Uint8Array.from(head))
  }

  async #buffer(): Promise<SharedArrayBuffer> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error
      const buffer = this.#buffers.take()
      if (buffer !== undefined) return buffer
      await Promise.race(this.#inFlight)
    }
  }

  #send(): void {
    const full = this.#filling
    if (full === undefined) return
    const length = this.#filled
    this.#filling = undefined
    this.#filled = 0
    this.#size += length
    const memory = full.buffer as unknown as SharedArrayBuffer
    const before = this.#written
    this.#written = before.then(() =>
      this.#failure === undefined ? this.#target.write(full.subarray(0, length)) : undefined,
    )
    const ways = [this.#written, ...[...this.#hashes.values()].map((hash) => hash.update(memory, length))]
    const whole = Promise.all(ways)
      .then(() => {
        this.#buffers.give(memory)
      })
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .then(() => Promise.allSettled(ways))
      .then(() => {
        this.#inFlight.delete(whole)
      })
    this.#inFlight.add(whole)
  }
}
