/** TLS of a server: what it is, and the handshake on a connection that is there. */
import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, TLSSocket, type TLSSocketOptions } from 'node:tls'
import { readPem } from '../transport/tls.ts'

/** How a server speaks TLS. */
export interface NbdServerTls {
  /** PEM of the server itself. */
  cert: string | Buffer
  key: string | Buffer
  /** PEM. Clients must have a certificate of this authority; undefined: they need none. */
  clientCa?: string | Buffer | undefined
  /** `require`: nothing is said about exports before TLS. `allow`: clients choose. Default `require`. */
  mode?: 'require' | 'allow' | undefined
}

/** Reads `server-cert.pem`, `server-key.pem` and `ca-cert.pem` of a folder, the names of QEMU's `tls-creds-x509`. `verifyPeer`: clients need a certificate of that authority.
 *  @throws MoraineError `missing`, `denied`, `io`. */
export function readServerCertificates(folder: string, { verifyPeer }: { verifyPeer: boolean }): NbdServerTls {
  const need = (file: string): Buffer => readPem(folder, file, true) as Buffer
  return {
    cert: need('server-cert.pem'),
    key: need('server-key.pem'),
    clientCa: verifyPeer ? need('ca-cert.pem') : undefined,
  }
}

/** TLS that is ready to be spoken. */
export interface SpokenTls {
  required: boolean
  context: SecureContext
  verifyPeer: boolean
}

/** Reads keys and certificates.
 *  @throws what OpenSSL says. */
export function prepareTls({ cert, key, clientCa, mode }: NbdServerTls): SpokenTls {
  const context = createSecureContext({ cert, key, ...(clientCa === undefined ? {} : { ca: clientCa }) })
  return { required: mode !== 'allow', context, verifyPeer: clientCa !== undefined }
}

/** Waits for a client's TLS handshake. Rejects when it fails; the socket is then closed by whoever owns it. */
export function acceptTls(socket: Socket, { context, verifyPeer }: SpokenTls): Promise<TLSSocket> {
  const options: TLSSocketOptions = {
    isServer: true,
    secureContext: context,
    requestCert: verifyPeer,
    rejectUnauthorized: verifyPeer,
  }
  const secure = new TLSSocket(socket, options)
  return new Promise((resolve, reject) => {
    const fail = (error?: Error) => reject(error ?? new Error('the client left during the TLS handshake'))
    secure.on('error', fail)
    secure.once('close', () => fail())
    // A TLSSocket of a server says `secure`, whatever it thinks of the client.
    secure.once('secure', () => {
      if (verifyPeer && !secure.authorized) return fail(secure.authorizationError)
      return resolve(secure)
    })
  })
}
