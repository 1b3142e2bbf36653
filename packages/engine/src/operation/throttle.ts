/** Keeping a copy under a rate. */

/** Lets `bytesPerSecond` pass on the average, starting with nothing saved up. */
export class Throttle {
  readonly #bytesPerSecond: number
  #next = 0

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Returns when `bytes` may pass, or as soon as the signal fires. */
  async pass(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = performance.now()
    const start = Math.max(now, this.#next)
    this.#next = start + (bytes / this.#bytesPerSecond) * 1000
    if (start <= now) return
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      const timer = setTimeout(wake, start - now)
      signal?.addEventListener('abort', wake)
      if (signal?.aborted === true) wake()
    })
  }
}
