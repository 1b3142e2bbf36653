/** Refuses requests of callers who make too many of them. */
import type { FastifyRequest } from 'fastify'
import { countedAs } from '../operate/counted-as.ts'
import type { Metrics } from '../operate/metrics.ts'
import type { RequestLimits } from '../operate/request-limits.ts'
import { HttpError } from './http-error.ts'

/** Who watches the service must see it, whatever others do. */
const uncounted = new Set(['/livez', '/readyz', '/healthcheck', '/metrics'])

/** A check of each request, around the one that finds out who sends it: who is refused there counts by the address. @throws HttpError 429, and what `identify` throws. */
export function limitRequests(
  limits: RequestLimits,
  metrics: Pick<Metrics, 'countLimited'>,
  identify: (request: FastifyRequest) => Promise<void>,
): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    if (uncounted.has(request.routeOptions.url ?? '')) return identify(request)
    let refusal: HttpError | undefined
    try {
      await identify(request)
    } catch (error) {
      if (!(error instanceof HttpError) || error.status !== 401) throw error
      refusal = error
    }
    const { by, key } = countedAs(request.caller, request.ip)
    const seconds = await limits.count(key)
    if (seconds !== undefined) {
      metrics.countLimited(by)
      throw new HttpError(429, `Too many requests: try again after ${seconds} s.`, {
        headers: { 'Retry-After': String(seconds) },
      })
    }
    if (refusal !== undefined) throw refusal
  }
}
