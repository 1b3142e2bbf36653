/** What is known about tokens, for a short time and in bounded memory. Tokens themselves are not kept, only their digests. */
import { createHash } from 'node:crypto'

/** An answer about a token that is good. */
interface Dated {
  /** Milliseconds since 1970 after which it is not to be believed. */
  readonly expiresAt: number
}

export interface TokenCacheSettings {
  /** For how long an answer is believed, in seconds; with 0, only requests at the same time share one. */
  seconds: number
  /** Good tokens that are remembered; of others, a tenth. */
  most: number
  /** Milliseconds since 1970. */
  now?: () => number
}

interface Entry<Value> {
  value: Value | undefined
  until: number
}

/** Requests that bring the same token at the same time share one question. Tokens that are no good have a place of their own, so that a stranger who tries many of
 *  them does not drive out the good ones. */
export class TokenCache<Value extends Dated> {
  readonly #good: Map<string, Entry<Value>> = new Map()
  readonly #bad: Map<string, Entry<Value>> = new Map()
  readonly #asking: Map<string, Promise<Value | undefined>> = new Map()
  readonly #seconds: number
  readonly #most: number
  readonly #now: () => number

  constructor({ seconds, most, now = Date.now }: TokenCacheSettings) {
    this.#seconds = seconds
    this.#most = most
    this.#now = now
  }

  /** What is known about a token; where that is nothing, what `ask` finds out. An error from `ask` reaches all who wait, and is not kept. */
  async get(token: string, ask: () => Promise<Value | undefined>): Promise<Value | undefined> {
    const key = createHash('sha256').update(token).digest('base64')
    const known = this.#good.get(key) ?? this.#bad.get(key)
    if (known !== undefined && this.#now() < known.until) return known.value
    const running = this.#asking.get(key)
    if (running !== undefined) return running
    const asking = ask().then((value) => {
      this.#keep(key, value)
      return value
    })
    this.#asking.set(key, asking)
    try {
      return await asking
    } finally {
      this.#asking.delete(key)
    }
  }

  #keep(key: string, value: Value | undefined): void {
    this.#good.delete(key)
    this.#bad.delete(key)
    const now = this.#now()
    const until = Math.min(now + this.#seconds * 1000, value?.expiresAt ?? Number.POSITIVE_INFINITY)
    if (until <= now) return
    const place = value === undefined ? this.#bad : this.#good
    // All are kept for the same time, so the first are those that end first.
    for (const [oldest, { until: end }] of place) {
      if (end > now && place.size < (value === undefined ? Math.ceil(this.#most / 10) : this.#most)) break
      place.delete(oldest)
    }
    place.set(key, { value, until })
  }
}
