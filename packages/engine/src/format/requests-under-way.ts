/** Requests that go on after others had their turn: whoever closes an image or moves its structures waits for them. */

/** Counts the requests of one disk that are under way. */
export class RequestsUnderWay {
  #count = 0
  #waiting: (() => void)[] = []

  /** Counts a request in until it is done; its result or error is passed on. */
  track<T>(request: Promise<T>): Promise<T> {
    this.#count++
    request.then(this.#leave, this.#leave)
    return request
  }

  /** Returns when there are none, those that come meanwhile included. */
  async none(): Promise<void> {
    while (this.#count > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  readonly #leave = (): void => {
    this.#count--
    if (this.#count === 0) for (const wake of this.#waiting.splice(0)) wake()
  }
}
