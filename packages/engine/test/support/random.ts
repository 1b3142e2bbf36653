/** Chance and time in tests: a seed that is printed, a time budget that grows on demand. */
import { createHash } from 'node:crypto'

/** The seed of this run: `MORAINE_SEED`, or a random one; printed with `what`, so that a failure can be repeated. */
export function seed(what: string): number {
  const given = process.env.MORAINE_SEED
  const value = given === undefined ? Math.floor(Math.random() * 0x7fff_ffff) : Number(given)
  if (!Number.isInteger(value)) throw new Error(`MORAINE_SEED is no whole number: ${given}`)
  console.info(`${what}: MORAINE_SEED=${value}`)
  return value
}

/** Milliseconds that a long loop may take: `ms` times `MORAINE_BUDGET` (default 1; a soak run sets it high). */
export function budget(ms: number): number {
  const factor = Number(process.env.MORAINE_BUDGET ?? '1')
  if (!(factor > 0)) throw new Error(`MORAINE_BUDGET is no positive number: ${process.env.MORAINE_BUDGET}`)
  return ms * factor
}

/** With `MORAINE_BUDGET` below 1, as in CI, that share of the cases of a large set is drawn by their titles and `MORAINE_SEED`: other ones for each commit. Everywhere else all are run. */
export function isDrawn(title: string): boolean {
  const share = budget(1)
  if (share >= 1) return true
  const digest = createHash('sha256')
    .update(`${process.env.MORAINE_SEED ?? ''} ${title}`)
    .digest()
  return digest.readUInt32BE() / 2 ** 32 < share
}

/** Whether all is to be run, and not the sample that CI takes: what is too large for CI asks. */
export const isWholeRun = Number(process.env.MORAINE_BUDGET ?? '1') >= 1

/** Time for a test that loops for `budget(ms)`: the budget and a reserve for its last round. */
export function timeFor(ms: number): number {
  return budget(ms) + 60_000
}

/** Pseudo-random numbers that a seed repeats (mulberry32). */
export class Random {
  private state: number

  constructor(seed: number) {
    this.state = seed | 0
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }

  /** A whole number from `low` to `high`, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  bool(chance = 0.5): boolean {
    return this.next() < chance
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.int(0, list.length - 1)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }

  /** The list in another order; the list itself stays. */
  shuffle<T>(list: readonly T[]): T[] {
    const copy = [...list]
    for (let i = copy.length - 1; i > 0; i--) {
      const j = this.int(0, i)
      const a = copy[i] as T
      copy[i] = copy[j] as T
      copy[j] = a
    }
    return copy
  }

  /** `length` bytes that do not compress. */
  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i += 4) {
      const word = Math.floor(this.next() * 0x1_0000_0000)
      bytes[i] = word
      bytes[i + 1] = word >>> 8
      bytes[i + 2] = word >>> 16
      bytes[i + 3] = word >>> 24
    }
    return bytes
  }
}

/** Every combination of one value from each axis, as objects. */
export function combinations<T extends Record<string, readonly unknown[]>>(
  axes: T,
): { [K in keyof T]: T[K][number] }[] {
  let list: Record<string, unknown>[] = [{}]
  for (const [name, values] of Object.entries(axes)) {
    list = list.flatMap((start) => values.map((value) => ({ ...start, [name]: value })))
  }
  return list as { [K in keyof T]: T[K][number] }[]
}

/** Runs `each` over the items in a seeded order until the time is up (at least `atLeast` of them), and says how far it came.
 *  Failures name their items; after the fifth it stops. */
export async function sample<T>(
  what: string,
  items: readonly T[],
  options: { seed: number; ms: number; atLeast?: number },
  each: (item: T, random: Random) => Promise<void>,
): Promise<void> {
  const random = new Random(options.seed)
  const end = Date.now() + budget(options.ms)
  const failures: { item: T; error: unknown }[] = []
  let count = 0
  for (const item of random.shuffle(items)) {
    if ((Date.now() > end && count >= (options.atLeast ?? 1)) || failures.length >= 5) break
    try {
      await each(item, new Random(random.int(0, 0x7fff_ffff)))
    } catch (error) {
      failures.push({ item, error })
    }
    count++
  }
  console.info(`${what}: ${count} of ${items.length} combinations`)
  if (failures.length === 0) return
  const lines = failures.map(({ item, error }) => `${JSON.stringify(item, plain)}: ${(error as Error).message}`)
  throw new Error(`${what}, MORAINE_SEED=${options.seed}\n${lines.join('\n')}`, { cause: failures[0]?.error })
}

const plain = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}` : value)
