/** Drives the engine in a child process: what hangs is seen from outside, what crashes takes nothing with it, and peak memory is its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'

/** What the child shall do with an image. */
export interface Job {
  id: number
  op:
    | ('idle' | 'info' | 'open' | 'read' | 'map' | 'check' | 'repair' | 'snapshots' | 'convert' | 'write')
    | ('walk' | 'compare' | 'measure' | 'transform' | 'stream' | 'spread' | 'commit' | 'rebase' | 'resize')
  file: string
  /** Default `qcow2`. */
  format?: string
  /** Whether `check` looks closer than QEMU does. */
  thorough?: boolean
  /** Where `convert` and `transform` write; the other image of `compare`, the lower one of `commit`. */
  target?: string
  /** The format of `target`; default that of the image. */
  to?: string
  /** Options of `to`, as for `-o`. */
  options?: string
  /** Whether `transform` and `stream` pack. */
  compress?: boolean
  /** Pieces that `spread` writes, chunks that `stream` takes. */
  pieces?: number
  /** For `resize`, in bytes. */
  size?: number
  /** For the random writes of `write`. */
  seed?: number
}

/** An error as the child saw it. */
export interface SeenError {
  name: string
  message: string
  stack: string
  /** It was a `MoraineError`; the rest is its own. */
  moraine: boolean
  kind?: string
  field?: string
  path?: string
  offset?: number
  reason?: string
  code?: string
}

/** What came of a job. */
export interface Answer {
  id: number
  /** Milliseconds. */
  ms: number
  /** Bytes of peak memory over the idle process. */
  over: number
  result?: unknown
  error?: SeenError
}

/** The process ended, or did not answer in time: the bug that a test of hostile input looks for. */
export class EngineDied extends Error {
  override name = 'EngineDied'
}

/** One child process, restarted after it died. */
export class EngineChild {
  private child: ChildProcess | undefined
  private lines: Interface | undefined
  private errors = ''
  private count = 0
  private last: Promise<unknown> = Promise.resolve()
  private ended = false
  private waiting: ((line: string | undefined) => void) | undefined
  private readonly flags: readonly string[]

  /** `flags`: of Node, besides. */
  constructor(flags: readonly string[] = []) {
    this.flags = flags
  }

  /** Does one job, after those that were asked for before. `limit` in milliseconds, default 10 seconds.
   *  @throws EngineDied */
  run(job: Omit<Job, 'id'>, limit = 10_000): Promise<Answer> {
    const answer = this.last.then(() => this.runNow(job, limit))
    this.last = answer.catch(() => {})
    return answer
  }

  /** Ends the process for good, after the last job. */
  async end(): Promise<void> {
    this.ended = true
    await this.last
    await this.stop()
  }

  private async runNow(job: Omit<Job, 'id'>, limit: number): Promise<Answer> {
    if (this.ended) throw new Error('no jobs are taken any more')
    if (this.child === undefined) await this.start()
    const id = ++this.count
    const line = this.next(limit)
    this.child?.stdin?.write(`${JSON.stringify({ ...job, id })}\n`)
    const text = await line
    if (text === undefined) {
      const errors = this.errors
      await this.stop()
      throw new EngineDied(`the engine hung for ${limit} ms or crashed over ${job.op} ${job.file}\n${errors}`)
    }
    const answer = JSON.parse(text) as Answer
    if (answer.id !== id) throw new Error(`the answer to job ${answer.id} came for job ${id}`)
    return answer
  }

  /** Ends the process; the next job starts another. */
  async stop(): Promise<void> {
    const child = this.child
    this.child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((done) => child.once('close', done))
    child.kill('SIGKILL')
    await ended
  }

  private async start(): Promise<void> {
    const script = join(import.meta.dirname, 'engine-child.ts')
    this.errors = ''
    const child = spawn(process.execPath, ['--conditions=source', '--expose-gc', ...this.flags, script], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text
    })
    this.lines = createInterface({ input: child.stdout })
    this.lines.on('line', (line) => this.waiting?.(line))
    child.stdin.on('error', () => {})
    child.on('close', () => {
      if (this.child === child) this.waiting?.(undefined)
    })
    if ((await this.next(30_000)) !== 'ready') {
      const errors = this.errors
      await this.stop()
      throw new Error(`the engine's process did not start\n${errors}`)
    }
  }

  private next(limit: number): Promise<string | undefined> {
    return new Promise((done) => {
      const timer = setTimeout(() => finish(undefined), limit)
      const finish = (line: string | undefined): void => {
        clearTimeout(timer)
        this.waiting = undefined
        done(line)
      }
      this.waiting = finish
    })
  }
}
