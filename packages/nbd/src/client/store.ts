/** An export as a store: requests of any place and length, cut and aligned as the server wants them. */
import {
  type ByteStore,
  type Extent,
  isMoraineError,
  MoraineError,
  throwIfCancelled,
  type ZeroMode,
} from '@moraine/engine'
import { allocationContext, allocationState, command, commandFlag, exportFlag } from '../wire/constants.ts'
import type { Connection } from './connection.ts'
import type { Agreement } from './negotiate.ts'
import type { Dialer, NbdOptions } from './open.ts'
import { Pool } from './pool.ts'
import type { Order, StatusRun } from './request.ts'
import { Turns } from './turns.ts'

/** Most bytes that one block status, trim or zeroing is asked for: what fits the 32 bits of its length, in whole blocks of any size. */
const effectBytes = 2 ** 31

/** Zeros for servers that have no request for them. */
const zeroBytes = 1024 * 1024

/** What a context says about a range. */
export interface NbdStatus {
  /** Bytes. */
  offset: number
  length: number
  /** As the context defines them. */
  flags: number
}

/** An export of an NBD server. It can be written where it was opened so. */
export class NbdStore implements ByteStore {
  readonly kind = 'device'
  readonly name: string
  readonly size: number
  readonly #agreement: Agreement
  readonly #pool: Pool
  readonly #writable: boolean
  readonly #writeThrough: boolean
  readonly #turns = new Turns()
  #zeros: Uint8Array | undefined

  constructor(dialer: Dialer, first: Connection, options: NbdOptions) {
    this.name = dialer.name
    this.#agreement = first.agreement
    this.size = first.agreement.size
    this.#writable = options.mode === 'write'
    this.#writeThrough = options.writeThrough === true
    this.#pool = new Pool(dialer, first, { connections: options.connections ?? 1, retries: options.retries ?? 2 })
  }

  /** What was agreed upon with the server. */
  get agreement(): Agreement {
    return this.#agreement
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#check(offset, into.length, signal)
    if (into.length === 0) return
    const start = this.#down(offset)
    const end = this.#up(offset + into.length)
    if (start === offset && end === offset + into.length) return await this.#read(offset, into, signal)
    const whole = new Uint8Array(end - start)
    await this.#read(start, whole, signal)
    into.set(whole.subarray(offset - start, offset - start + into.length))
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#checkWrite(offset, from.length, signal)
    if (from.length === 0) return
    await this.#turns.run(this.#down(offset), this.#up(offset + from.length), () =>
      this.#writeAligned(offset, from, signal),
    )
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    this.#checkWrite(offset, length, signal)
    if (length === 0) return
    const end = offset + length
    await this.#turns.run(this.#down(offset), this.#up(end), async () => {
      const first = this.#up(offset)
      const last = this.#down(end)
      if (first >= last) return await this.#writeAligned(offset, new Uint8Array(length), signal)
      if (offset < first) await this.#writeAligned(offset, new Uint8Array(first - offset), signal)
      await this.#zeroWhole(first, last, mode, signal)
      if (last < end) await this.#writeAligned(last, new Uint8Array(end - last), signal)
    })
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkWrite(offset, length)
    if (!this.#can(exportFlag.sendTrim)) return
    const first = this.#up(offset)
    const last = this.#down(offset + length)
    for (let at = first; at < last; at += effectBytes) {
      await this.#change({
        type: command.trim,
        flags: this.#fua(),
        offset: at,
        length: Math.min(effectBytes, last - at),
      })
    }
  }

  /** An export has the size that its server gives it.
   *  @throws MoraineError `unsupported`, in QEMU's words, unless it is that size. */
  async resize(size: number): Promise<void> {
    if (size === this.size) return
    throw new MoraineError('unsupported', 'Cannot resize NBD nodes', {
      path: this.name,
      field: 'size',
      value: size,
      code: 'ENOTSUP',
    })
  }

  async flush(): Promise<void> {
    if (!this.#writable) return
    if (!this.#can(exportFlag.sendFlush)) return this.#pool.flushed()
    await this.#pool.flush({ type: command.flush, flags: 0, offset: 0, length: 0 })
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    this.#check(offset, length, signal)
    for await (const batch of this.#statuses(allocationContext, offset, length, signal)) {
      yield batch.map(({ offset, length, flags }) => ({
        offset,
        length,
        allocated: true,
        data: (flags & allocationState.hole) === 0,
        zero: (flags & allocationState.zero) !== 0,
        depth: 0,
      }))
    }
  }

  /** What a context says about a range, in batches. A server that does not know the context, or answers an error, says 0 for all of it.
   *  @throws MoraineError `io`, `corrupt`, `cancelled`. */
  async *status(context: string, offset: number, length: number, signal?: AbortSignal): AsyncIterable<NbdStatus[]> {
    this.#check(offset, length, signal)
    yield* this.#statuses(context, offset, length, signal)
  }

  async close(): Promise<void> {
    await this.#pool.close()
  }

  async *#statuses(
    context: string,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): AsyncIterable<NbdStatus[]> {
    const end = offset + length
    const id = this.#contextId(context)
    if (id === undefined) {
      if (length > 0) yield [{ offset, length, flags: 0 }]
      return
    }
    for (let at = offset; at < end; ) {
      const runs = await this.#askStatus(id, at, end, signal)
      const batch: NbdStatus[] = []
      for (const { length, flags } of runs) {
        // The server goes by whole blocks.
        const stop = Math.min(end, (batch.length === 0 ? this.#down(at) : at) + length)
        if (stop <= at) continue
        batch.push({ offset: at, length: stop - at, flags })
        at = stop
      }
      yield batch
    }
  }

  async #askStatus(id: number, at: number, end: number, signal: AbortSignal | undefined): Promise<StatusRun[]> {
    const offset = this.#down(at)
    const length = Math.min(effectBytes, this.#up(end) - offset)
    try {
      const { status } = await this.#pool.send({ type: command.blockStatus, flags: 0, offset, length }, signal)
      // A context that this reply leaves out says nothing.
      return status.get(id) ?? [{ length, flags: 0 }]
    } catch (error) {
      // 0 is always a safe answer; a connection that broke gives none.
      if (!this.#pool.answered(error)) throw error
      return [{ length, flags: 0 }]
    }
  }

  #contextId(context: string): number | undefined {
    for (const [id, name] of this.#agreement.contexts) if (name === context) return id
    return undefined
  }

  /** Reads whole blocks. */
  async #read(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const most = this.#agreement.maximumPayload
    if (into.length <= most) return await this.#readPiece(offset, into, signal)
    await inPieces(into.length, most, (at, length) =>
      this.#readPiece(offset + at, into.subarray(at, at + length), signal),
    )
  }

  async #readPiece(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const order: Order = { type: command.read, flags: this.#df(), offset, length: into.length, into }
    try {
      await this.#pool.send(order, signal)
    } catch (error) {
      if (!isMoraineError(error, 'io') || error.code !== 'EOVERFLOW' || order.flags === 0) throw error
      await this.#pool.send({ ...order, flags: 0 }, signal)
    }
  }

  /** Where extents are known already, a server need not look for holes in what is read. */
  #df(): number {
    return this.#agreement.structured && this.#can(exportFlag.sendDf) ? commandFlag.df : 0
  }

  /** Writes anything; blocks of which only a part is written are read first. Whoever calls has the range for itself. */
  async #writeAligned(offset: number, from: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const start = this.#down(offset)
    const end = this.#up(offset + from.length)
    if (start === offset && end === offset + from.length) return await this.#writeWhole(offset, from, signal)
    const whole = new Uint8Array(end - start)
    const block = this.#agreement.minimumBlock
    if (start < offset) await this.#read(start, whole.subarray(0, block), signal)
    if (end > offset + from.length && (end - start > block || start === offset)) {
      await this.#read(end - block, whole.subarray(whole.length - block), signal)
    }
    whole.set(from, offset - start)
    await this.#writeWhole(start, whole, signal)
  }

  async #writeWhole(offset: number, from: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const most = this.#agreement.maximumPayload
    await inPieces(from.length, most, (at, length) =>
      this.#change(
        {
          type: command.write,
          flags: this.#fua(),
          offset: offset + at,
          length,
          payload: from.subarray(at, at + length),
        },
        signal,
      ),
    )
  }

  async #zeroWhole(first: number, last: number, mode: ZeroMode, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#can(exportFlag.sendWriteZeroes)) {
      this.#zeros ??= new Uint8Array(zeroBytes)
      for (let at = first; at < last; at += zeroBytes) {
        throwIfCancelled(signal, this.name)
        await this.#writeWhole(at, this.#zeros.subarray(0, Math.min(zeroBytes, last - at)), signal)
      }
      return
    }
    const flags = this.#fua() | (mode === 'allocate' ? commandFlag.noHole : 0)
    for (let at = first; at < last; at += effectBytes) {
      await this.#change(
        { type: command.writeZeroes, flags, offset: at, length: Math.min(effectBytes, last - at) },
        signal,
      )
    }
  }

  /** A request that changes content, flushed where every write shall be and the server cannot do it by itself. */
  async #change(order: Order, signal?: AbortSignal): Promise<void> {
    await this.#pool.change(order, signal)
    if (this.#writeThrough && !this.#can(exportFlag.sendFua)) await this.flush()
  }

  #fua(): number {
    return this.#writeThrough && this.#can(exportFlag.sendFua) ? commandFlag.fua : 0
  }

  #can(flag: number): boolean {
    return (this.#agreement.flags & flag) !== 0
  }

  #down(offset: number): number {
    const block = this.#agreement.minimumBlock
    return offset - (offset % block)
  }

  #up(offset: number): number {
    const block = this.#agreement.minimumBlock
    return Math.ceil(offset / block) * block
  }

  #check(offset: number, length: number, signal?: AbortSignal): void {
    throwIfCancelled(signal, this.name)
    if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new MoraineError('io', 'the range passes the end of the export', {
      path: this.name,
      offset,
      code: 'EIO',
      rule: `offset + ${length} at most ${this.size}`,
    })
  }

  #checkWrite(offset: number, length: number, signal?: AbortSignal): void {
    if (!this.#writable) {
      throw new MoraineError('denied', 'the export was opened for reading', { path: this.name, code: 'EBADF' })
    }
    this.#check(offset, length, signal)
  }
}

/** Does `[0, length)` in pieces, side by side: how many go at once is decided further down. All of them have ended when this returns. */
async function inPieces(
  length: number,
  most: number,
  work: (at: number, length: number) => Promise<void>,
): Promise<void> {
  if (length <= most) return await work(0, length)
  const pieces: Promise<void>[] = []
  for (let at = 0; at < length; at += most) pieces.push(work(at, Math.min(most, length - at)))
  for (const result of await Promise.allSettled(pieces)) if (result.status === 'rejected') throw result.reason
}
