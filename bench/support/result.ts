/** From samples to results: medians, ratios and verdicts. */
import type { Job, Prepared, Sample } from './job.ts'

/** What one contender needed: medians over the rounds, the most memory of all. */
export interface Score {
  name: string
  seconds: number
  samples: number[]
  peakBytes?: number | undefined
  outputBytes?: number | undefined
  readBytes?: number | undefined
}

/** The result of a job. */
export interface Result {
  job: string
  title: string
  against: string
  scores: Score[]
  /** Of whose time is judged. */
  ratio: number
  bytes?: number | undefined
  atMost?: number | undefined
  aim?: number | undefined
  /** What does not hold; empty when all does. */
  misses: string[]
  /** The same for the standalone executable, where it ran too. */
  standaloneMisses?: string[]
  /** When and of which commit. */
  date?: string
  commit?: string
}

/** What of a job its verdict rests on. */
type Judged = Omit<Job, 'prepare' | 'leastRounds'>

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('no values')
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] as number
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2
}

function score(name: string, samples: readonly Sample[]): Score {
  const most = (values: (number | undefined)[]) => {
    const known = values.filter((value) => value !== undefined)
    return known.length === 0 ? undefined : Math.max(...known)
  }
  return {
    name,
    seconds: median(samples.map(({ seconds }) => seconds)),
    samples: samples.map(({ seconds }) => Number(seconds.toFixed(4))),
    peakBytes: most(samples.map(({ peakBytes }) => peakBytes)),
    outputBytes: most(samples.map(({ outputBytes }) => outputBytes)),
    readBytes: most(samples.map(({ readBytes }) => readBytes)),
  }
}

/** Runs a prepared job: one round that does not count, then `rounds` in which the contenders take turns, each round beginning with
 *  another one. `start` is the time of an empty Node process, in seconds. */
export async function measure(
  job: Judged,
  { contenders, against, bytes, verify }: Prepared,
  rounds: number,
  start: number,
): Promise<Result> {
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]))
  for (let round = -1; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(turn + Math.max(round, 0)) % contenders.length]
      if (contender === undefined) throw new Error(`${job.name} has no contender`)
      const sample = await contender.run()
      if (round >= 0) samples.get(contender.name)?.push(sample)
    }
  }
  await verify?.()
  const scores = [...samples].map(([name, list]) => score(name, list))
  return judge(job, scores, against, bytes, start)
}

/** Ratio and verdicts from the scores. */
export function judge(job: Judged, scores: Score[], against: string, bytes: number | undefined, start: number): Result {
  const judged = job.judged ?? 'moraine'
  const ours = scores.find(({ name }) => name === judged)
  const theirs = scores.find(({ name }) => name === against)
  if (ours === undefined || theirs === undefined) throw new Error(`${job.name}: no score of ${judged} or ${against}`)
  const standalone = scores.find(({ name }) => name === 'standalone')
  const { name, title, atMost, aim } = job
  return {
    ...{ job: name, title, against, scores, bytes, atMost, aim },
    ratio: ours.seconds / theirs.seconds,
    misses: missesOf(job, ours, theirs, start),
    ...(standalone === undefined ? {} : { standaloneMisses: missesOf(job, standalone, theirs, start) }),
  }
}

/** What a contender does not hold. */
function missesOf(job: Judged, ours: Score, theirs: Score, start: number): string[] {
  const { atMost, plusStart, peakAtMost, sizeAtMost, readAtMost } = job
  const misses: string[] = []
  const allowed = (atMost ?? Number.POSITIVE_INFINITY) * theirs.seconds + (plusStart === true ? start : 0)
  if (ours.seconds > allowed) misses.push('time')
  if (peakAtMost !== undefined && ours.peakBytes !== undefined && ours.peakBytes > peakAtMost) misses.push('memory')
  if (
    sizeAtMost !== undefined &&
    ours.outputBytes !== undefined &&
    theirs.outputBytes !== undefined &&
    ours.outputBytes > sizeAtMost * theirs.outputBytes
  ) {
    misses.push('size')
  }
  if (readAtMost !== undefined && !((ours.readBytes ?? Number.NaN) <= readAtMost)) misses.push('reads')
  return misses
}
