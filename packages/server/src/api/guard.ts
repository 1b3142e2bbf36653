/** Who may talk to a service that asks nobody for a name: programs of this machine, and no web page of a stranger in a browser that runs here. */
import type { FastifyRequest } from 'fastify'
import { type Config, isLoopback } from '../config.ts'
import { HttpError } from './http-error.ts'

/** A check of each request. A page whose name was made to resolve to this machine (DNS rebinding) shows in `Host`, a form or script of another site in
 *  `Origin`. @throws HttpError 403. */
export function guardAgainstBrowsers(config: Config): (request: FastifyRequest) => Promise<void> {
  const known = config.publicUrl === '' ? undefined : new URL(config.publicUrl)
  return async ({ host, hostname, headers }) => {
    // A page has no token, and a browser sends none by itself.
    if (config.auth !== 'none') return
    const isExpected = hostname === '' || isLoopback(hostname) || hostname === known?.hostname
    if (!config.allowRemote && !isExpected) {
      throw new HttpError(403, `This service is for loopback only, and does not answer for ${hostname}.`)
    }
    const { origin } = headers
    if (origin === undefined) return
    const from = URL.canParse(origin) ? new URL(origin).host : origin
    if (from !== host && from !== known?.host)
      throw new HttpError(403, `This service takes no requests from pages of ${from}.`)
  }
}
