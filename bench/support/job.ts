/** What a measurement is: jobs, those who compete in them, and what one run of one of them tells. */

/** One run. */
export interface Sample {
  /** Wall time of the whole run. */
  seconds: number
  /** Most memory that the process held, where it was measured. */
  peakBytes?: number | undefined
  /** Bytes that the result takes on the disk, where there is one. */
  outputBytes?: number | undefined
  /** Bytes that were read of an image, the most of any, where they were counted. */
  readBytes?: number | undefined
}

/** One who does the job. The names stand in the table; `moraine` is the one that is judged. */
export interface Contender {
  name: string
  run(): Promise<Sample>
}

/** A job, ready to be measured. */
export interface Prepared {
  contenders: Contender[]
  /** Whom the ratio is taken against. */
  against: string
  /** Bytes that one run moves, for a speed beside the time. */
  bytes?: number | undefined
  /** Looks once, after the last round, whether the result is right. Throws when it is not. */
  verify?(): Promise<void>
  /** Removes what the job made besides its inputs. */
  close?(): Promise<void>
}

/** A job of the benchmark. */
export interface Job {
  /** As in `npm run bench convert/raw-qcow2`; the part before the slash is its group. */
  name: string
  title: string
  /** Ratio to whom it is measured against that must hold. */
  atMost?: number | undefined
  /** Ratio that is hoped for. */
  aim?: number | undefined
  /** Whose time is judged; default `moraine`, the command under Node. */
  judged?: 'moraine' | 'standalone' | undefined
  /** Rounds at least, for runs whose times scatter. */
  leastRounds?: number | undefined
  /** The start of a Node process is added to what it is measured against. */
  plusStart?: boolean | undefined
  /** Peak memory that must hold, for moraine. */
  peakAtMost?: number | undefined
  /** Size of the result against the other's that must hold. */
  sizeAtMost?: number | undefined
  /** Bytes read of an image that must hold, for moraine. */
  readAtMost?: number | undefined
  prepare(bench: Bench): Promise<Prepared>
}

/** What jobs are given. */
export interface Bench {
  /** 1 for the real sizes; less for a try-out. */
  scale: number
  /** Folder of the inputs, kept between runs. */
  inputs: string
  /** Folder of results, removed after each job. */
  results: string
  /** The command from the built packages. */
  moraine: string
  /** The standalone executable. */
  standalone: string
  /** Makes an input once, under this name; its path. `make` writes to the path it is given, which is renamed when it is done. */
  input(name: string, make: (path: string) => Promise<void>): Promise<string>
}

/** Peak memory at most, for every job with a process of its own. */
export const peakLimit = 192 * 1024 * 1024
