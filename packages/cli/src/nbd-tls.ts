/** TLS of the verbs that speak NBD, from folders of certificates. */
import type { NbdTls } from '@moraine/nbd'
import type { OptionSpec } from './verb.ts'

/** What a client says about TLS. */
export const tlsOptions = {
  tlsCertificates: {
    long: 'tls-certificates',
    argument: 'DIR',
    help: 'Speak TLS: the folder with ca-cert.pem and, where the server asks who is calling, client-cert.pem and client-key.pem.',
  },
  tlsHostname: {
    long: 'tls-hostname',
    argument: 'NAME',
    help: "The name in the server's certificate, where it is not the host's.",
  },
} as const satisfies Record<string, OptionSpec>

/** Reads the certificates; undefined where none are named.
 *  @throws MoraineError */
export async function readTls(values: {
  tlsCertificates: string | undefined
  tlsHostname: string | undefined
}): Promise<NbdTls | undefined> {
  const { tlsCertificates, tlsHostname } = values
  if (tlsCertificates === undefined) return tlsHostname === undefined ? undefined : { hostname: tlsHostname }
  const { readClientCertificates } = await import('@moraine/nbd')
  return { ...readClientCertificates(tlsCertificates), ...(tlsHostname === undefined ? {} : { hostname: tlsHostname }) }
}
