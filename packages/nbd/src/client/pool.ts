/** The connections to one export: more of them where the server allows it, new ones where one broke and nothing can be lost by it. */
import { isMoraineError, MoraineError } from '@moraine/engine'
import { exportFlag } from '../wire/constants.ts'
import type { Connection } from './connection.ts'
import type { Dialer } from './open.ts'
import type { Order, Request } from './request.ts'

/** With so many requests under way on each connection another one is worth it. */
const busy = 2

/** Milliseconds before a connection is made anew; twice as long each time. */
const pause = 100

/** Sends requests over whichever connection has least to do. */
export class Pool {
  readonly #dialer: Dialer
  readonly #connections: Connection[]
  readonly #first: Connection['agreement']
  readonly #retries: number
  #most: number
  #opening: Promise<unknown> | undefined
  /** Ends the opening of another connection, which a server that takes no more may never answer. */
  readonly #giveUp = new AbortController()
  #renewing: Promise<void> | undefined
  #closed = false
  /** Something was written that was not flushed yet; a server that comes back may have forgotten it. */
  #unflushed = false

  constructor(dialer: Dialer, first: Connection, { connections, retries }: { connections: number; retries: number }) {
    this.#dialer = dialer
    this.#connections = [first]
    this.#first = first.agreement
    this.#retries = retries
    this.#most = (first.agreement.flags & exportFlag.canMultiConn) === 0 ? 1 : connections
  }

  /** Sends a request that may be sent twice.
   *  @throws MoraineError as `Connection.send`. */
  async send(order: Order, signal?: AbortSignal): Promise<Request> {
    for (let attempt = 0; ; attempt++) {
      const connection = this.#choose()
      try {
        return await connection.send(order, signal)
      } catch (error) {
        if (connection.broken === undefined || !this.#mayRenew(error) || attempt >= this.#retries) throw error
        await this.#renew(attempt, error, signal)
      }
    }
  }

  /** Sends a request that changes content. It is never sent twice. */
  async change(order: Order, signal?: AbortSignal): Promise<void> {
    this.#unflushed = true
    await this.#choose().send(order, signal)
  }

  /** Sends a flush; what was written before on any connection is then on stable storage.
   *  @throws MoraineError as `Connection.send`, also when a connection broke since the last flush. */
  async flush(order: Order): Promise<void> {
    const wasUnflushed = this.#unflushed
    // What is written while the flush is under way is not covered by it.
    this.#unflushed = false
    try {
      await this.#choose().send(order)
    } catch (error) {
      this.#unflushed = wasUnflushed
      throw error
    }
  }

  /** Notes that the server has nothing to flush. */
  flushed(): void {
    this.#unflushed = false
  }

  /** Whether an error is the server's answer, and not the end of a connection. */
  answered(error: unknown): boolean {
    return (
      isMoraineError(error) &&
      error.kind !== 'cancelled' &&
      error.kind !== 'corrupt' &&
      this.#connections.every((one) => one.broken === undefined)
    )
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#giveUp.abort()
    await this.#opening?.catch(() => {})
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }

  #choose(): Connection {
    let best = this.#connections[0] as Connection
    for (const connection of this.#connections) {
      // Nothing goes around a connection that broke: what it had may be lost.
      if (connection.broken !== undefined) return connection
      if (connection.load < best.load) best = connection
    }
    if (best.load >= busy && this.#connections.length < this.#most) this.#open()
    return best
  }

  /** One more connection, for later requests. A server that does not want it is asked no more. */
  #open(): void {
    this.#opening ??= this.#dialer
      .dial(this.#giveUp.signal)
      .then(async (connection) => {
        if (!this.#closed && this.#fits(connection)) this.#connections.push(connection)
        else await connection.close()
      })
      .catch(() => {
        this.#most = this.#connections.length
      })
      .finally(() => {
        this.#opening = undefined
      })
  }

  #fits({ agreement }: Connection): boolean {
    return (
      agreement.size === this.#first.size &&
      agreement.flags === this.#first.flags &&
      agreement.minimumBlock <= this.#first.minimumBlock
    )
  }

  #mayRenew(error: unknown): boolean {
    return !this.#closed && !this.#unflushed && isMoraineError(error, 'io')
  }

  /** Replaces what broke. Whoever comes meanwhile waits for the same. */
  async #renew(attempt: number, why: unknown, signal: AbortSignal | undefined): Promise<void> {
    this.#renewing ??= this.#replace(attempt, why, signal).finally(() => {
      this.#renewing = undefined
    })
    await this.#renewing
  }

  async #replace(attempt: number, why: unknown, signal: AbortSignal | undefined): Promise<void> {
    for (let tries = attempt; ; tries++) {
      await new Promise((resolve) => setTimeout(resolve, pause * 2 ** tries))
      try {
        const fresh = await this.#dialer.dial(signal)
        if (!this.#fits(fresh) || !sameContexts(fresh.agreement.contexts, this.#first.contexts)) {
          await fresh.close()
          throw new MoraineError('io', 'the export is another one since the connection broke', {
            path: this.#dialer.name,
            code: 'ESTALE',
            cause: why,
          })
        }
        const old = this.#connections.splice(0, this.#connections.length, fresh)
        await Promise.all(old.map((connection) => connection.close()))
        return
      } catch (error) {
        if (isMoraineError(error) && error.code === 'ESTALE') throw error
        if (tries + 1 >= this.#retries) throw why
      }
    }
  }
}

function sameContexts(a: ReadonlyMap<number, string>, b: ReadonlyMap<number, string>): boolean {
  return a.size === b.size && [...a].every(([id, name]) => b.get(id) === name)
}
