/** Certificates that a Barbican keeps, asked for in the caller's name, as Glance does. Source: Key Manager API v1, "Secrets". */
import { get as getPlain, type IncomingMessage } from 'node:http'
import { get as getTls } from 'node:https'
import type { Identity } from '../identity/identity.ts'
import { readBounded } from '../web/read-bounded.ts'
import { type FindCertificate, readCertificate } from './certificates.ts'
import { SignatureError, uncheckable } from './signature.ts'

export interface BarbicanOptions {
  /** Where it is. */
  endpointOf: NonNullable<Identity['endpointOf']>
  /** Certificates (PEM) that may vouch for it; undefined: those that Node knows. */
  ca: string | undefined
  timeoutSeconds: number
  /** Told why a certificate could not be had. */
  onTrouble(error: unknown): void
}

const longestBody = 256 * 1024

/** Secrets are called by UUIDs. Nothing else becomes a part of a path. */
const secretId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export function barbicanCertificates({ endpointOf, ca, timeoutSeconds, onTrouble }: BarbicanOptions): FindCertificate {
  const ask = (url: string, token: string, accept: string) =>
    new Promise<{ status: number; body: Buffer }>((resolve, reject) => {
      const options = {
        headers: { 'x-auth-token': token, accept },
        signal: AbortSignal.timeout(timeoutSeconds * 1000),
        ...(ca === undefined ? {} : { ca }),
      }
      const answered = (response: IncomingMessage) => {
        const status = response.statusCode ?? 0
        readBounded(response, longestBody).then((body) => resolve({ status, body }), reject)
      }
      const message = url.startsWith('https:') ? getTls(url, options, answered) : getPlain(url, options, answered)
      message.on('error', reject)
    })

  return async (id, token) => {
    if (token === undefined || !secretId.test(id)) return undefined
    try {
      const endpoint = (await endpointOf('key-manager'))?.replace(/\/+$/, '')
      if (endpoint === undefined) return undefined
      const secret = `${endpoint}${/\/v1$/.test(endpoint) ? '' : '/v1'}/secrets/${id}`
      const { status, body } = await ask(secret, token, 'application/json')
      if (status === 404) return undefined
      if (status !== 200) throw new Error(`Barbican answers with ${status}`)
      // It gives a payload only as what it was stored as.
      const facts = JSON.parse(body.toString()) as { content_types?: { default?: string } }
      const payload = await ask(`${secret}/payload`, token, facts.content_types?.default ?? 'application/octet-stream')
      if (payload.status !== 200) throw new Error(`Barbican answers with ${payload.status} for the payload`)
      return readCertificate(id, payload.body)
    } catch (error) {
      if (error instanceof SignatureError) throw error
      onTrouble(error)
      throw uncheckable(`Unable to retrieve certificate with ID: ${id}`)
    }
  }
}
