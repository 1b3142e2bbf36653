/** Hashes on threads of their own, so that the event loop stays free while gigabytes pass. */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { workerUrl } from '../worker-url.ts'
import type { HashAlgorithm, HashReply, HashRequest, Verification } from './hash-protocol.ts'

/** A running hash. Calls are answered in order. */
export interface StreamHash {
  /** Resolves when the first `length` bytes of `memory` are taken in; they must not change before. */
  update(memory: SharedArrayBuffer, length: number): Promise<void>
  /** The hexadecimal digest, or whether a signature is `good`; the hash is over then. */
  digest(): Promise<string>
  /** Forgets the hash. */
  drop(): void
}

const mostThreads = 4

/** A few threads that share all running hashes; started when first needed, they do not keep the process alive. */
export class HashThreads {
  readonly #threads: HashThread[] = []
  readonly #most: number

  constructor(most: number = Math.max(2, Math.min(mostThreads, availableParallelism()))) {
    this.#most = most
  }

  start(algorithm: HashAlgorithm | Verification): StreamHash {
    return this.#idlest().start(algorithm)
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.splice(0).map((thread) => thread.close()))
  }

  #idlest(): HashThread {
    const idlest = this.#threads.reduce<HashThread | undefined>(
      (best, thread) => (best === undefined || thread.running < best.running ? thread : best),
      undefined,
    )
    if (idlest !== undefined && (idlest.running === 0 || this.#threads.length >= this.#most)) return idlest
    const thread = new HashThread((failed) => {
      const at = this.#threads.indexOf(failed)
      if (at >= 0) this.#threads.splice(at, 1)
    })
    this.#threads.push(thread)
    return thread
  }
}

interface Waiting {
  resolve(reply: HashReply): void
  reject(error: Error): void
}

class HashThread {
  readonly #worker = new Worker(workerUrl('store/hash-worker'), {
    // It makes hardly anything: memory that it does not need is for transfers.
    resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 64 },
  })
  readonly #waiting = new Map<number, Waiting[]>()
  #next = 0

  constructor(onGone: (thread: HashThread) => void) {
    this.#worker.unref()
    this.#worker.on('message', (reply: HashReply) => this.#waiting.get(reply.hash)?.shift()?.resolve(reply))
    const gone = (error: Error) => {
      onGone(this)
      for (const list of this.#waiting.values()) for (const { reject } of list.splice(0)) reject(error)
    }
    this.#worker.on('error', (error) => gone(error as Error))
    this.#worker.on('exit', () => gone(new Error('the hashing thread has ended')))
  }

  get running(): number {
    return this.#waiting.size
  }

  start(algorithm: HashAlgorithm | Verification): StreamHash {
    const hash = this.#next++
    this.#waiting.set(hash, [])
    this.#send({ op: 'start', hash, algorithm })
    return {
      update: async (memory, length) => {
        await this.#ask({ op: 'update', hash, memory, length })
      },
      digest: async () => {
        const { digest } = await this.#ask({ op: 'digest', hash })
        this.#waiting.delete(hash)
        return digest ?? ''
      },
      drop: () => {
        if (!this.#waiting.delete(hash)) return
        this.#send({ op: 'drop', hash })
      },
    }
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #send(request: HashRequest): void {
    this.#worker.postMessage(request)
  }

  #ask(request: HashRequest): Promise<HashReply> {
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(request.hash)
      if (waiting === undefined) return reject(new Error('the hash is over'))
      waiting.push({ resolve, reject })
      this.#send(request)
    })
  }
}
