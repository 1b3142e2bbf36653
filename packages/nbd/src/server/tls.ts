/** TLS of a server: what it is, and the handshake on a connection that is there. */
import type { Socket } from 'node:net'
import { createSecureContext, createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import { MoraineError } from '@moraine/engine'
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
  options: TlsOptions
}

/** Reads keys and certificates.
 *  @throws MoraineError `invalid` with what OpenSSL says. */
export function prepareTls({ cert, key, clientCa, mode }: NbdServerTls): SpokenTls {
  const verifyPeer = clientCa !== undefined
  const options = {
    cert,
    key,
    ...(verifyPeer ? { ca: clientCa } : {}),
    requestCert: verifyPeer,
    rejectUnauthorized: verifyPeer,
  }
  try {
    createSecureContext(options)
  } catch (cause) {
    throw new MoraineError('invalid', `the certificates cannot be used: ${(cause as Error).message}`, {
      field: 'tls',
      cause,
    })
  }
  return { required: mode !== 'allow', options }
}

/** Waits for a client's TLS handshake. Rejects when it fails; the socket is then closed by whoever owns it. */
export function acceptTls(socket: Socket, { options }: SpokenTls): Promise<TLSSocket> {
  // Only a server of node:tls looks at a client's certificate. It is given this connection, and never listens.
  const server = createServer(options)
  return new Promise((resolve, reject) => {
    server.once('secureConnection', resolve)
    server.once('tlsClientError', reject)
    socket.once('close', () => reject(new Error('a client left during the TLS handshake')))
    server.emit('connection', socket)
  })
}
