/** What orchestrators and monitors ask: does the process live, can it serve, what has it done. */
import type { Routes } from '../api/routes.ts'
import type { Service } from '../service.ts'
import { addressCheck, readAddresses } from './addresses.ts'
import type { Metrics } from './metrics.ts'

/** Whether new requests are welcome. */
export interface Readiness {
  isStopping: boolean
}

export function addHealth(routes: Routes, service: Service, metrics: Metrics, readiness: Readiness): void {
  const mayMeasure = addressCheck(readAddresses('metricsFrom', service.config.metricsFrom))

  routes.get('/livez', (_request, reply) => reply.type('text/plain; charset=UTF-8').send('OK'))

  routes.get('/readyz', async (request, reply) => {
    reply.type('text/plain; charset=UTF-8')
    if (readiness.isStopping) return reply.code(503).send('stopping')
    try {
      // Any question will do; this one costs the same however many images there are.
      await service.catalog.get('')
    } catch (error) {
      request.log.error({ err: error }, 'the catalog does not answer')
      return reply.code(503).send('the catalog does not answer')
    }
    return reply.send('OK')
  })

  routes.get('/metrics', async (request, reply) => {
    // To others there is no such thing.
    if (!mayMeasure(request.ip)) return reply.callNotFound()
    const { type, text } = await metrics.show()
    return reply.type(type).send(text)
  })
}
