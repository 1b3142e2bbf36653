/** Counts the bytes of all image data, those of running uploads too, so that a quota is exact however many uploads run at once. */

/** The quota would be passed. */
export class OverQuota extends Error {
  constructor(limit: number, left: number) {
    super(`all image data together may take ${limit} bytes, and ${left} are left`)
    this.name = 'OverQuota'
  }
}

/** What one upload has taken so far. */
export interface Reservation {
  /** @throws OverQuota; nothing is taken then. */
  take(bytes: number): void
  /** Whether so many more would fit. @throws OverQuota when not. */
  check(bytes: number): void
  /** Gives back all that was taken; harmless when called twice. */
  release(): void
}

export class StorageBudget {
  readonly #limit: number
  #used: number

  /** @param limit Bytes; 0: none. @param used Bytes of the image data that is there. */
  constructor(limit: number, used: number) {
    this.#limit = limit
    this.#used = used
  }

  open(): Reservation {
    let taken = 0
    const check = (bytes: number) => {
      if (this.#limit > 0 && this.#used + bytes > this.#limit) {
        throw new OverQuota(this.#limit, Math.max(0, this.#limit - this.#used))
      }
    }
    return {
      check,
      take: (bytes) => {
        check(bytes)
        this.#used += bytes
        taken += bytes
      },
      release: () => {
        this.#used -= taken
        taken = 0
      },
    }
  }

  /** The data of an image is gone. */
  give(bytes: number): void {
    this.#used -= bytes
  }
}
