/** The contract of an inspector: how one format is recognised and judged. It sees the bytes in the order in which a stream brings them, and asks for
 *  what it needs: so it says the same whether the bytes pass by once or lie in a file. */
import type { Reading } from '../guest/reading.ts'
import type { FindingKind, Inspection, Report } from './finding.ts'

/** Bytes from the beginning that every inspector sees at once. */
export const headBytes = 128 * 1024
/** Bytes at the end that every inspector may see, last. */
export const tailBytes = 64 * 1024

/** A region that is asked for, in bytes from the beginning. */
export interface Wish {
  offset: number
  length: number
}

/** What came of a wish. */
export interface Region {
  /** What is there: shorter than asked when the end came first, empty when it could not be had. */
  bytes: Uint8Array
  /** Whether all that was asked for is there. */
  whole: boolean
  /** Why it is not: the data ends, the place has already passed, or the wish passes the inspector's budget. */
  missing?: 'end' | 'behind' | 'budget'
}

/** What is known once everything passed. */
export interface End {
  /** Bytes of all. */
  size: number
  /** The last bytes, up to `tailBytes`. */
  tail: Uint8Array
}

/** What an inspector gets for what it yields. */
export type Answer = { region: Region } | { end: End }

/** One look at the bytes: yields wishes and `end`, in the order of a stream. */
export type Look = Generator<Wish | 'end', void, Answer>

/** What an inspector works with. */
export interface View {
  /** The first bytes: `headBytes` of them, or all. */
  readonly head: Uint8Array
  /** Says that the format matches. What is put on the report is seen at once, also before the end. */
  found(format: string, kind: FindingKind, evidence: string, by?: 'head' | 'tail'): Report
  /** Inspects bytes that were packed in here. `whole`: they are all there are. Undefined when nested too deep. */
  inner(bytes: Uint8Array, whole: boolean): Inspection | undefined
}

/** An inspector: a plain value in a list. */
export interface Inspector {
  readonly name: string
  /** Most bytes of regions that it may have besides head and tail. Those of all inspectors that can match at once stay under 2 MiB with head and tail. */
  readonly budget: number
  inspect(view: View): Look
}

/** Asks for a region. It must lie in the head, in a region had before, or not before the end of the last one. */
export function* region(offset: number, length: number): Generator<Wish, Region, Answer> {
  const answer = yield { offset, length }
  return 'region' in answer ? answer.region : { bytes: new Uint8Array(0), whole: false, missing: 'behind' }
}

/** Reads guest structures with what an inspector may see: what it may not see is not there. */
export function* seeing<Result>(reading: Reading<Result>): Generator<Wish, Result, Answer> {
  let step = reading.next()
  while (step.done !== true) {
    const { offset, length } = step.value
    step = reading.next((yield* region(offset, length)).bytes)
  }
  return step.value
}

/** Waits for the end. After it only what lies in the head, in regions had before or in the tail can be asked for. */
export function* atEnd(): Generator<'end', End, Answer> {
  const answer = yield 'end'
  return 'end' in answer ? answer.end : { size: 0, tail: new Uint8Array(0) }
}
