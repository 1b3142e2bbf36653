/** What Prometheus reads: how many requests there were, how long they took, how many bytes passed, and how Node is doing. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { RunningWork } from '../running-work.ts'
import type { CountedBy } from './counted-as.ts'
import type { Ending } from './ending.ts'

/** The measures of one service; two in one process do not meet. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #requests: Counter
  readonly #seconds: Histogram
  readonly #bytes: Counter
  readonly #limited: Counter

  /** @param uploads Work whose number is shown. */
  constructor(uploads: RunningWork) {
    const registers = [this.#registry]
    collectDefaultMetrics({ register: this.#registry, prefix: 'moraine_' })
    this.#requests = new Counter({
      name: 'moraine_http_requests_total',
      help: 'Requests, by how they ended: answered, or cut off before the last byte of the answer had left; the status is 0 when none was said',
      labelNames: ['method', 'route', 'status', 'outcome'],
      registers,
    })
    this.#seconds = new Histogram({
      name: 'moraine_http_request_seconds',
      help: 'Seconds from the first byte of a request to the last of its answer',
      labelNames: ['method', 'route'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600],
      registers,
    })
    this.#bytes = new Counter({
      name: 'moraine_http_bytes_total',
      help: 'Bytes of bodies that came in and went out, with what HTTP puts around them',
      labelNames: ['direction', 'route'],
      registers,
    })
    this.#limited = new Counter({
      name: 'moraine_requests_limited_total',
      help: 'Requests that were refused because their caller had made too many, by what callers are told apart by',
      labelNames: ['by'],
      registers,
    })
    new Gauge({
      name: 'moraine_uploads_running',
      help: 'Uploads under way',
      registers,
      collect() {
        this.set(uploads.size)
      },
    })
  }

  /** Counts one request. Routes are counted by their pattern: identifiers in paths would make a series of each image. */
  count(request: FastifyRequest, reply: FastifyReply, { isCut, status = 0, received, sent }: Ending): void {
    const { method } = request
    const route = request.routeOptions.url ?? 'unknown'
    this.#requests.inc({ method, route, status, outcome: isCut ? 'cut' : 'answered' })
    this.#seconds.observe({ method, route }, reply.elapsedTime / 1000)
    this.#bytes.inc({ direction: 'in', route }, received)
    this.#bytes.inc({ direction: 'out', route }, sent)
  }

  /** Counts a request that was one too many. */
  countLimited(by: CountedBy): void {
    this.#limited.inc({ by })
  }

  /** The text that Prometheus reads, and its media type. */
  async show(): Promise<{ type: string; text: string }> {
    return { type: this.#registry.contentType, text: await this.#registry.metrics() }
  }
}
