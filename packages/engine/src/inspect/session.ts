/** Runs one inspector over bytes that come in order. What it may have depends only on what it asked before, never on how the bytes come: that makes a
 *  stream and a file give the same verdict. */
import { type End, headBytes, type Inspector, type Look, type Region, type View, type Wish } from './contract.ts'

/** A wish that waits for bytes: `[offset, offset + length)`, of which `filled` bytes are there. */
interface Waiting {
  offset: number
  bytes: Uint8Array
  filled: number
}

/** One inspector at work. */
export class Session {
  readonly #look: Look
  readonly #head: Uint8Array
  readonly #had: { offset: number; bytes: Uint8Array }[]
  #budget: number
  /** Everything before it has passed by. */
  #position: number
  #waiting: Waiting | undefined
  #state: 'running' | 'at end' | 'done' = 'running'

  constructor(inspector: Inspector, view: View) {
    this.#head = view.head
    this.#had = [{ offset: 0, bytes: view.head }]
    this.#budget = inspector.budget
    this.#position = headBytes
    this.#look = inspector.inspect(view)
    this.#follow(this.#look.next())
  }

  /** The region it waits for, when it waits for one. */
  get wanted(): Wish | undefined {
    const waiting = this.#waiting
    return waiting === undefined
      ? undefined
      : { offset: waiting.offset + waiting.filled, length: waiting.bytes.length - waiting.filled }
  }

  /** Takes bytes that stand at `offset`; they continue those given before. */
  take(offset: number, bytes: Uint8Array): void {
    for (;;) {
      const wanted = this.wanted
      if (wanted === undefined || wanted.offset < offset || wanted.offset >= offset + bytes.length) return
      const waiting = this.#waiting as Waiting
      const part = bytes.subarray(wanted.offset - offset, wanted.offset - offset + wanted.length)
      waiting.bytes.set(part, waiting.filled)
      waiting.filled += part.length
      if (waiting.filled < waiting.bytes.length) return
      this.#answer(waiting)
    }
  }

  /** Tells that nothing more comes. */
  end(end: End): void {
    for (let waiting = this.#waiting; waiting !== undefined; waiting = this.#waiting) this.#answer(waiting)
    if (this.#state !== 'at end') return
    this.#position = Number.POSITIVE_INFINITY
    this.#had.push({ offset: end.size - end.tail.length, bytes: end.tail })
    this.#follow(this.#look.next({ end }))
  }

  #answer({ offset, bytes, filled }: Waiting): void {
    this.#waiting = undefined
    this.#position = offset + bytes.length
    const there = bytes.subarray(0, filled)
    this.#had.push({ offset, bytes: there })
    const whole = filled === bytes.length
    this.#give(whole ? { bytes: there, whole } : { bytes: there, whole, missing: 'end' })
  }

  #give(region: Region): void {
    this.#follow(this.#look.next({ region }))
  }

  #follow(step: IteratorResult<Wish | 'end', void>): void {
    for (let next = step; ; ) {
      if (next.done === true) {
        this.#state = 'done'
        return
      }
      if (next.value === 'end') {
        this.#state = 'at end'
        return
      }
      const region = this.#serve(next.value)
      if (region === undefined) return
      next = this.#look.next({ region })
    }
  }

  /** The region, when it can be had or refused at once; otherwise it is waited for. */
  #serve({ offset, length }: Wish): Region | undefined {
    const nothing = new Uint8Array(0)
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(offset + length) && offset >= 0 && length >= 0)) {
      return { bytes: nothing, whole: false, missing: 'end' }
    }
    for (const { offset: start, bytes } of this.#had) {
      if (offset >= start && offset + length <= start + bytes.length) {
        return { bytes: bytes.subarray(offset - start, offset - start + length), whole: true }
      }
    }
    // A head shorter than a head can be is all there is.
    if (this.#head.length < headBytes) {
      const bytes = this.#head.subarray(offset, offset + length)
      return { bytes, whole: bytes.length === length, missing: 'end' }
    }
    const begun = offset < headBytes && this.#position === headBytes ? this.#head.subarray(offset) : nothing
    if (offset + begun.length < this.#position) return { bytes: nothing, whole: false, missing: 'behind' }
    if (length > this.#budget) return { bytes: nothing, whole: false, missing: 'budget' }
    this.#budget -= length
    const bytes = new Uint8Array(length)
    bytes.set(begun)
    this.#waiting = { offset, bytes, filled: begun.length }
    return undefined
  }
}
