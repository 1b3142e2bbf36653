/** Telling of things in the order in which they were begun, whatever the order in which they end. */

/** A queue of what was begun. */
export class InOrder {
  readonly #begun: { tell: () => void; ended: boolean }[] = []

  /** Begins the next one. The returned function says that it has ended; `tell` is called once all that were begun before it have, too. */
  begin(tell: () => void): () => void {
    const one = { tell, ended: false }
    this.#begun.push(one)
    return () => {
      one.ended = true
      while (this.#begun[0]?.ended === true) this.#begun.shift()?.tell()
    }
  }
}
