/** This process among those that share a catalog: it says that it is alive, and takes over from those that are not. */
import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Upload, Work, WorkerFacts } from '../catalog/work.ts'

/** A worker that has not been heard of for so long is dead. */
const leaseSeconds = 30
const beatMilliseconds = 5000

const seconds = () => Math.floor(Date.now() / 1000)

/** Two processes with the same one see each other's process ids. */
function hostName(): string {
  return [
    hostname(),
    attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    attempt(() => readlinkSync('/proc/self/ns/pid')),
  ].join(' ')
}

/** When a process began, in the kernel's ticks; empty where the system does not say. */
function startOf(pid: number): string {
  // The second field, the name of the program, may hold anything.
  return attempt(
    () =>
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[19] ?? '',
  )
}

function attempt(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}

/** What is to be done when uploads of a dead worker are found. */
type OnUploads = (uploads: readonly Upload[]) => Promise<void>

export class Worker {
  readonly id = randomUUID()
  readonly #work: Work
  readonly #onUploads: OnUploads
  readonly #onError: (error: unknown) => void
  readonly #host = hostName()
  #timer: NodeJS.Timeout | undefined
  #beating: Promise<void> = Promise.resolve()

  constructor(work: Work, onUploads: OnUploads, onError: (error: unknown) => void) {
    this.#work = work
    this.#onUploads = onUploads
    this.#onError = onError
  }

  /** Begins, and clears away what dead workers left. */
  async start(): Promise<void> {
    await this.#beat()
    for (const stray of await this.#work.strays()) await this.#onUploads(await this.#work.bury(stray))
    this.#timer = setInterval(() => {
      this.#beating = this.#beat().catch(this.#onError)
    }, beatMilliseconds).unref()
  }

  /** Ends. What the worker still has is for others. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#beating
    await this.#onUploads(await this.#work.bury(this.id))
  }

  async #beat(): Promise<void> {
    const now = seconds()
    const own = { id: this.id, host: this.#host, pid: process.pid, started: startOf(process.pid) }
    await this.#work.greet({ ...own, leaseUntil: now + leaseSeconds })
    for (const worker of await this.#work.workers()) {
      if (worker.id === this.id || !this.#isDead(worker, now)) continue
      await this.#onUploads(await this.#work.bury(worker.id))
    }
  }

  #isDead({ host, pid, started, leaseUntil }: WorkerFacts, now: number): boolean {
    if (leaseUntil < now) return true
    if (host !== this.#host) return false
    return !isRunning(pid) || startOf(pid) !== started
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
