/** `--object throttle-group`: bytes and requests a second, for all nodes of the group together. Leaky buckets as QEMU's `util/throttle.c` has them; the words are qemu-img 7.2's. */
import { Failure } from '../failure.ts'

/** What a bucket counts. */
const units = ['bps', 'iops'] as const
/** What goes into it. */
const calls = ['total', 'read', 'write'] as const

/** The names of the limits, in the order of QEMU's schema. */
export const limitNames: readonly string[] = [
  ...(['iops', 'bps'] as const).flatMap((unit) =>
    calls.flatMap((call) => ['', '-max', '-max-length'].map((end) => `${unit}-${call}${end}`)),
  ),
  'iops-size',
]

/** One limit. Bytes or requests, and seconds. */
interface Bucket {
  unit: (typeof units)[number]
  call: (typeof calls)[number]
  /** What runs out of it in a second; 0: no limit. */
  average: number
  /** How fast it may fill for `burstSeconds`; 0: a tenth of a second's worth goes through at once, and no more. */
  most: number
  burstSeconds: number
  level: number
  burstLevel: number
}

/** The most that a limit may be. */
const largest = 1e15

/** Lets bytes and requests pass as its limits say. */
export class ThrottleGroup {
  readonly #buckets: readonly Bucket[]
  /** Requests longer than this many bytes count as several; 0: none does. */
  readonly #requestBytes: number
  #leakedAt = performance.now()
  readonly #turns: Record<'read' | 'write', Promise<void>> = { read: Promise.resolve(), write: Promise.resolve() }

  /** The limits by their names.
   *  @throws Failure */
  constructor(limits: ReadonlyMap<string, number>) {
    const value = (name: string): number => limits.get(name) ?? 0
    this.#requestBytes = value('iops-size')
    this.#buckets = units.flatMap((unit) =>
      calls.map((call) => ({
        unit,
        call,
        average: value(`${unit}-${call}`),
        most: value(`${unit}-${call}-max`),
        burstSeconds: limits.get(`${unit}-${call}-max-length`) ?? 1,
        level: 0,
        burstLevel: 0,
      })),
    )
    refuseSenseless(this.#buckets, this.#requestBytes)
  }

  /** Returns when a request of so many bytes may pass, or as soon as the signal fires. Each direction has one queue. */
  async pass(call: 'read' | 'write', bytes: number, signal: AbortSignal): Promise<void> {
    const turn = this.#turns[call].then(async () => {
      const filled = this.#buckets.filter((bucket) => bucket.average > 0 && [call, 'total'].includes(bucket.call))
      for (;;) {
        this.#leak()
        const wait = Math.max(0, ...filled.map(waitOf))
        if (wait === 0 || signal.aborted) break
        await pause(wait * 1000, signal)
      }
      const requests = this.#requestBytes > 0 ? Math.max(1, bytes / this.#requestBytes) : 1
      for (const bucket of filled) {
        const amount = bucket.unit === 'bps' ? bytes : requests
        bucket.level += amount
        if (bucket.burstSeconds > 1) bucket.burstLevel += amount
      }
    })
    this.#turns[call] = turn
    await turn
  }

  #leak(): void {
    const now = performance.now()
    const seconds = (now - this.#leakedAt) / 1000
    this.#leakedAt = now
    for (const bucket of this.#buckets) {
      bucket.level = Math.max(0, bucket.level - bucket.average * seconds)
      bucket.burstLevel = Math.max(0, bucket.burstLevel - bucket.most * seconds)
    }
  }
}

/** Seconds until a bucket has room. */
function waitOf({ average, most, burstSeconds, level, burstLevel }: Bucket): number {
  const room = most === 0 ? average / 10 : most * burstSeconds
  if (level > room) return (level - room) / average
  return burstSeconds > 1 && burstLevel > most / 10 ? (burstLevel - most / 10) / most : 0
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const wake = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', wake)
      resolve()
    }
    const timer = setTimeout(wake, Math.max(1, milliseconds))
    signal.addEventListener('abort', wake)
    if (signal.aborted) wake()
  })
}

/** The limits by their names in `limits.`; each has an older name with `x-`, which counts more.
 *  @throws Failure */
export function readLimits({
  limits: inner = {},
  ...older
}: { limits?: { [name: string]: number | undefined } } & { [name: `x-${string}`]: number | undefined }): Map<
  string,
  number
> {
  const limits = new Map<string, number>()
  for (const [prefix, given] of [
    ['', inner],
    ['x-', older],
  ] as const) {
    for (const [key, value] of Object.entries(given)) {
      if (typeof value !== 'number') continue
      if (prefix === 'x-' && value < 0) throw new Failure('Property values cannot be negative')
      if (key.endsWith('-max-length') && (value < 0 || value > 0xffff_ffff)) {
        // So it stands in QEMU.
        const range = prefix === 'x-' ? 'therange' : 'the range'
        throw new Failure(`${key} value must be in ${range} [0, 4294967295]`)
      }
      limits.set(key.slice(prefix.length), value)
    }
  }
  return limits
}

/** What QEMU's `throttle_is_valid` refuses, in its order. */
function refuseSenseless(buckets: readonly Bucket[], requestBytes: number): void {
  for (const unit of units) {
    for (const limit of ['average', 'most'] as const) {
      const set = buckets.filter((bucket) => bucket.unit === unit && bucket[limit] !== 0).map(({ call }) => call)
      if (set.includes('total') && set.length > 1) {
        throw new Failure('bps/iops/max total values and read/write values cannot be used at the same time')
      }
    }
  }
  if (requestBytes !== 0 && buckets.every(({ unit, average }) => unit === 'bps' || average === 0)) {
    throw new Failure('iops size requires an iops value to be set')
  }
  for (const { average, most, burstSeconds } of buckets) {
    if ([average, most].some((value) => value < 0 || value > largest)) {
      throw new Failure(`bps/iops/max values must be within [0, ${largest}]`)
    }
    if (burstSeconds === 0) throw new Failure('the burst length cannot be 0')
    if (burstSeconds > 1 && most === 0) throw new Failure('burst length set without burst rate')
    if (most > 0 && burstSeconds > largest / most) throw new Failure('burst length too high for this burst rate')
    if (most > 0 && average === 0) throw new Failure('bps_max/iops_max require corresponding bps/iops values')
    if (most > 0 && most < average) throw new Failure('bps_max/iops_max cannot be lower than bps/iops')
  }
}
