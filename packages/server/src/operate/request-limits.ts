/** How many requests whoever calls may make: a number a second, and some more in between. Loaded only where that is bounded. */
import { BurstyRateLimiter, RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'

/** In which requests beyond the rate are counted. */
const burstSeconds = 10

/** What counts the requests of each caller by itself, in the memory of this process. */
export class RequestLimits {
  readonly #limiter: BurstyRateLimiter

  /** @param rate Requests a second. @param burst Requests beyond them within ten seconds. */
  constructor(rate: number, burst: number) {
    this.#limiter = new BurstyRateLimiter(
      new RateLimiterMemory({ keyPrefix: 'rate', points: rate, duration: 1 }),
      new RateLimiterMemory({ keyPrefix: 'burst', points: burst, duration: burstSeconds }),
    )
  }

  /** Counts a request. Resolves to the seconds after which it may come again, when it is one too many; undefined when it is not. */
  async count(key: string): Promise<number | undefined> {
    try {
      await this.#limiter.consume(key)
      return undefined
    } catch (refused) {
      if (!(refused instanceof RateLimiterRes)) throw refused
      return Math.max(1, Math.ceil(refused.msBeforeNext / 1000))
    }
  }
}
