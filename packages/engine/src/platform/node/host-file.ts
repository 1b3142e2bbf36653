/** An open file of the host as a byte store: what regular files and block devices share. Reads and writes are single calls of node:fs
 *  with callbacks, as a promise of its own per call is measurably dearer (random 4 KiB reads). */
import fs from 'node:fs'
import {
  type ByteSource,
  type ByteStore,
  type Extent,
  isMoraineError,
  MoraineError,
  type Preallocation,
  throwIfCancelled,
  type ZeroMode,
} from '../../core/index.ts'
import { mayBlock, readingTurnMs } from './event-loop.ts'
import { codeOf, hostError, strerror } from './host-error.ts'
import type { Native } from './native.ts'

/** What is known about a file when its store is made. */
export interface HostFileFacts {
  descriptor: number
  /** As the caller named it. */
  name: string
  /** Bytes. */
  size: number
  identity: string
  writable: boolean
  /** flush() does nothing. */
  unsafe: boolean
  /** Reads, looks at the size and the closing are made in the calling thread, as long as the event loop gets its turns. */
  readsHere: boolean
  /** Writes are made in the calling thread, as long as the event loop gets its turns. */
  writesHere: boolean
  /** Finds the system calls when they are first needed; undefined where they cannot be had. */
  native: () => Native | undefined
}

const zeroChunk = 1024 * 1024

let zeros: Uint8Array | undefined

/** Base of the stores over a descriptor. Sub-classes add what files and devices do differently. */
export abstract class HostFile implements ByteStore {
  abstract readonly kind: 'file' | 'device'
  readonly name: string
  readonly identity: string
  readonly descriptor: number
  /** Bytes. Grows as writes past the end come back. */
  size: number
  protected readonly writable: boolean
  protected readonly native: () => Native | undefined
  readonly #unsafe: boolean
  readonly #readsHere: boolean
  readonly #writesHere: boolean
  /** The furthest end of any write under way, at least `size`. */
  #reach: number
  /** How many of the calls under way may make the file longer. */
  #growing = 0
  #growthWaiters: (() => void)[] = []
  #pending = 0
  #closing: { done: Promise<void>; whenIdle: () => void } | undefined

  constructor(facts: HostFileFacts) {
    this.descriptor = facts.descriptor
    this.name = facts.name
    this.identity = facts.identity
    this.size = facts.size
    this.#reach = facts.size
    this.writable = facts.writable
    this.native = facts.native
    this.#unsafe = facts.unsafe
    this.#readsHere = facts.readsHere
    this.#writesHere = facts.writesHere
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const length = into.length
    const refusal = this.#refusal('read', offset, length, signal)
    if (refusal !== undefined) return Promise.reject(refusal)
    if (length === 0) return Promise.resolve()
    if (this.#readsHere && mayBlock(readingTurnMs)) return this.#readHere(offset, into)
    this.#pending++
    return new Promise((resolve, reject) => {
      let filled = 0
      const done = (error: NodeJS.ErrnoException | null, bytes: number) => {
        if (error === null && bytes > 0) {
          filled += bytes
          if (filled < length) {
            fs.read(this.descriptor, into, filled, length - filled, offset + filled, done)
            return
          }
          this.#settle()
          resolve()
          return
        }
        this.#settle()
        reject(
          error === null
            ? this.#becameShorter(offset + filled, offset + length)
            : hostError(codeOf(error), { path: this.name, offset: offset + filled, cause: error }),
        )
      }
      fs.read(this.descriptor, into, 0, length, offset, done)
    })
  }

  /** Reads in this thread, as `#writeHere` writes. */
  #readHere(offset: number, into: Uint8Array): Promise<void> {
    let filled = 0
    try {
      while (filled < into.length) {
        const bytes = fs.readSync(this.descriptor, into, filled, into.length - filled, offset + filled)
        if (bytes === 0) return Promise.reject(this.#becameShorter(offset + filled, offset + into.length))
        filled += bytes
      }
      return Promise.resolve()
    } catch (error) {
      return Promise.reject(hostError(codeOf(error), { path: this.name, offset: offset + filled, cause: error }))
    }
  }

  #becameShorter(offset: number, end: number): MoraineError {
    return new MoraineError('io', strerror('EIO'), {
      path: this.name,
      offset,
      code: 'EIO',
      rule: `the file has at least ${end} bytes, as when it was opened`,
      hint: 'The file became shorter while it was open.',
    })
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const length = from.length
    const refusal = this.#refusal('write', offset, length, signal)
    if (refusal !== undefined) return Promise.reject(refusal)
    if (length === 0) return Promise.resolve()
    const end = offset + length
    const growing = end > this.size
    if (growing) this.growthBegins(end)
    if (this.#writesHere) {
      return mayBlock() ? this.#writeHere(offset, from, growing) : this.#writeNextTurn(offset, from, growing)
    }
    this.#pending++
    return new Promise((resolve, reject) => {
      let written = 0
      const done = (error: NodeJS.ErrnoException | null, bytes: number) => {
        if (error === null && bytes > 0) {
          written += bytes
          if (written < length) {
            fs.write(this.descriptor, from, written, length - written, offset + written, done)
            return
          }
          if (growing) this.growthEnds(end)
          this.#settle()
          resolve()
          return
        }
        if (growing) this.growthEnds(offset + written)
        this.#settle()
        const place = { path: this.name, offset: offset + written, cause: error ?? undefined }
        reject(hostError(error === null ? 'EIO' : codeOf(error), place))
      }
      fs.write(this.descriptor, from, 0, length, offset, done)
    })
  }

  /** Writes in this thread. What was asked of it ends with the call, so that nothing is pending afterwards. */
  #writeHere(offset: number, from: Uint8Array, growing: boolean): Promise<void> {
    let written = 0
    try {
      while (written < from.length) {
        const bytes = fs.writeSync(this.descriptor, from, written, from.length - written, offset + written)
        if (bytes === 0) throw hostError('EIO', { path: this.name, offset: offset + written })
        written += bytes
      }
      return Promise.resolve()
    } catch (error) {
      const place = { path: this.name, offset: offset + written, cause: error }
      return Promise.reject(isMoraineError(error) ? error : hostError(codeOf(error), place))
    } finally {
      if (growing) this.growthEnds(offset + written)
    }
  }

  /** The same once the event loop has had its turn: another thread would only wait for the file's lock, and keep a processor busy with that. */
  #writeNextTurn(offset: number, from: Uint8Array, growing: boolean): Promise<void> {
    this.#pending++
    return new Promise((resolve) => {
      const attempt = (): void => {
        if (!mayBlock()) {
          setImmediate(attempt)
          return
        }
        resolve(this.#writeHere(offset, from, growing))
        this.#settle()
      }
      setImmediate(attempt)
    })
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    const refusal = this.#refusal('read', offset, length, signal)
    if (refusal !== undefined) throw refusal
    if (length > 0) yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const refusal = this.#refusal('write', offset, length, signal)
    if (refusal !== undefined) throw refusal
    if (length > 0) await this.busy(() => this.zeroRange(offset, length, mode, signal))
  }

  async discard(offset: number, length: number): Promise<void> {
    const refusal = this.#refusal('write', offset, length, undefined)
    if (refusal !== undefined) throw refusal
    const end = Math.min(offset + length, this.size)
    if (end > offset) await this.busy(() => this.discardRange(offset, end - offset))
  }

  async resize(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    const refusal = this.#refusal('write', size, 0, undefined, true)
    if (refusal !== undefined) throw refusal
    await this.busy(() => this.resizeTo(size, preallocation))
  }

  flush(): Promise<void> {
    if (this.#unsafe || !this.writable) return Promise.resolve()
    return this.busy(
      () =>
        new Promise((resolve, reject) => {
          fs.fdatasync(this.descriptor, (error) =>
            error === null ? resolve() : reject(hostError(codeOf(error), { path: this.name, cause: error })),
          )
        }),
    )
  }

  async copyFrom(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number> {
    const refusal = this.#refusal('write', offset, length, undefined)
    if (refusal !== undefined) throw refusal
    if (source.descriptor === undefined || length <= 0) return 0
    const from = source.descriptor
    return this.busy(() => this.copyRange(source, from, sourceOffset, offset, length))
  }

  allocatedSize(): Promise<number> {
    return this.busy(
      () =>
        new Promise((resolve, reject) => {
          const done = (error: NodeJS.ErrnoException | null, stats: Pick<fs.Stats, 'blocks'>) =>
            error === null
              ? resolve(stats.blocks * 512)
              : reject(hostError(codeOf(error), { path: this.name, cause: error }))
          if (this.#readsHere && mayBlock(readingTurnMs)) done(null, fs.fstatSync(this.descriptor))
          else fs.fstat(this.descriptor, done)
        }),
    )
  }

  /** Waits for what is under way (the number of a closed descriptor may be another file's the next moment), then closes. */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing.done
    let whenIdle = () => {}
    const idle = new Promise<void>((resolve) => {
      whenIdle = resolve
    })
    const done = idle.then(
      () =>
        new Promise<void>((resolve, reject) => {
          if (this.#readsHere && mayBlock(readingTurnMs)) {
            fs.closeSync(this.descriptor)
            resolve()
            return
          }
          fs.close(this.descriptor, (error) =>
            error ? reject(hostError(codeOf(error), { path: this.name, cause: error })) : resolve(),
          )
        }),
    )
    this.#closing = { done, whenIdle }
    if (this.#pending === 0) whenIdle()
    return done
  }

  protected abstract zeroRange(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void>
  protected abstract discardRange(offset: number, length: number): Promise<void>
  protected abstract resizeTo(size: number, preallocation: Preallocation): Promise<void>
  protected abstract copyRange(
    source: ByteSource,
    from: number,
    sourceOffset: number,
    offset: number,
    length: number,
  ): Promise<number>

  /** Writes zeros the plain way; grows a file. */
  protected async writeZeros(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    zeros ??= new Uint8Array(zeroChunk)
    for (let done = 0; done < length; done += zeroChunk) {
      throwIfCancelled(signal, this.name)
      await this.write(offset + done, length - done < zeroChunk ? zeros.subarray(0, length - done) : zeros)
    }
  }

  /** Notes that a call under way may make the file as long as `end`. Every call is matched by one of `growthEnds`. */
  protected growthBegins(end: number): void {
    this.#growing++
    if (end > this.#reach) this.#reach = end
  }

  /** Notes that the file is at least `end` bytes long now. */
  protected growthEnds(end: number): void {
    if (end > this.size) this.size = end
    this.#growing--
    if (this.#growing === 0) this.#reach = this.size
    if (this.#growthWaiters.length > 0) for (const wake of this.#growthWaiters.splice(0)) wake()
  }

  /** Makes the file at least `size` bytes long by a hole. A truncation could cut a write under way that ends further out: it is made
   *  synchronously, and only beyond the reach of all of them. */
  protected async extendTo(size: number): Promise<void> {
    while (size > this.size) {
      if (this.#growing > 0 && size <= this.#reach) {
        await new Promise<void>((resolve) => this.#growthWaiters.push(resolve))
        continue
      }
      try {
        fs.ftruncateSync(this.descriptor, size)
      } catch (error) {
        throw hostError(codeOf(error), { path: this.name, offset: size, cause: error })
      }
      this.size = size
      if (size > this.#reach) this.#reach = size
    }
  }

  /** Sets the size; nothing may be under way beyond it. */
  protected truncateTo(size: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.ftruncate(this.descriptor, size, (error) => {
        if (error !== null) {
          reject(hostError(codeOf(error), { path: this.name, offset: size, cause: error }))
          return
        }
        this.size = size
        if (this.#growing === 0) this.#reach = size
        resolve()
      })
    })
  }

  /** Keeps the descriptor open while `task` runs. */
  protected async busy<Result>(task: () => Promise<Result>): Promise<Result> {
    if (this.#closing !== undefined) throw this.#closedError()
    this.#pending++
    try {
      return await task()
    } finally {
      this.#settle()
    }
  }

  /** Whether a write of this device or file may pass its end. */
  protected abstract readonly grows: boolean

  #settle(): void {
    this.#pending--
    if (this.#pending === 0 && this.#closing !== undefined) this.#closing.whenIdle()
  }

  #refusal(
    doing: 'read' | 'write',
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    sizing = false,
  ): MoraineError | undefined {
    if (signal?.aborted) {
      return new MoraineError('cancelled', 'the operation was cancelled', { path: this.name, cause: signal.reason })
    }
    if (this.#closing !== undefined && this.#pending === 0) return this.#closedError()
    if (doing === 'write' && !this.writable) {
      return new MoraineError('denied', 'the file was opened for reading only', {
        path: this.name,
        offset,
        code: 'EBADF',
      })
    }
    if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(offset + length) || length < 0) {
      return new MoraineError('invalid', strerror('EINVAL'), { path: this.name, field: 'offset', value: offset })
    }
    if (offset + length > this.size && !sizing) {
      if (doing === 'read') {
        return new MoraineError('io', 'the read passes the end of the file', {
          path: this.name,
          offset,
          code: 'EIO',
          rule: `offset + length at most ${this.size}`,
        })
      }
      // What the kernel says at the end of a device.
      if (!this.grows)
        return hostError('ENOSPC', { path: this.name, offset, rule: `the device has ${this.size} bytes` })
    }
    return undefined
  }

  #closedError(): MoraineError {
    return new MoraineError('io', 'the file is closed', { path: this.name, code: 'EBADF' })
  }
}
