/** TLS of a client: from QEMU's and libnbd's folders of certificates, or from pre-shared keys. */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect } from 'node:tls'
import { MoraineError } from '@moraine/engine'
import { codeOf, strerror } from '@moraine/engine/node'
import type { Link } from './connect.ts'
import { Receiver } from './receiver.ts'

/** How a client speaks TLS. */
export interface NbdTls {
  /** PEM. Who may vouch for the server; default: the authorities that Node trusts. */
  ca?: string | Buffer | undefined
  /** PEM of the client itself, for servers that ask who it is. */
  cert?: string | Buffer | undefined
  key?: string | Buffer | undefined
  /** What the key is encrypted with. */
  passphrase?: string | undefined
  /** The name that the server's certificate must have. Default: the host, or `localhost` with a UNIX socket. */
  hostname?: string | undefined
  /** In place of certificates: a key that both sides know, and the name that it goes by. */
  psk?: { identity: string; key: Buffer } | undefined
  /** False: whoever answers is believed to be the server. What is sent is kept from listeners only. */
  verifyPeer?: false | undefined
  /** No name is known that the server could have: its certificate is refused by every name. */
  nameless?: true | undefined
  /** Neither certificates nor keys: nobody proves who they are. */
  anonymous?: true | undefined
}

/** Reads `ca-cert.pem`, `client-cert.pem` and `client-key.pem` of a folder, the names of QEMU's `tls-creds-x509`.
 *  @throws MoraineError `missing`, `denied`, `io`. */
export function readClientCertificates(folder: string): NbdTls {
  const cert = readPem(folder, 'client-cert.pem', false)
  return {
    ca: readPem(folder, 'ca-cert.pem', true),
    cert,
    key: cert === undefined ? undefined : readPem(folder, 'client-key.pem', true),
  }
}

/** Reads a file of a folder of certificates; undefined where it is not there and need not be.
 *  @throws MoraineError `missing`, `denied`, `io`. */
export function readPem(folder: string, file: string, needed: boolean): Buffer | undefined {
  const path = join(folder, file)
  try {
    return readFileSync(path)
  } catch (cause) {
    const code = codeOf(cause)
    if (code === 'ENOENT' && !needed) return undefined
    const kind = code === 'ENOENT' ? 'missing' : code === 'EACCES' ? 'denied' : 'io'
    throw new MoraineError(kind, `Could not read '${path}': ${strerror(code)}`, { path, code, cause })
  }
}

/** Makes TLS of a connection whose server has agreed to it. Nothing else goes: a server that cannot prove who it is, is refused.
 *  @throws MoraineError `denied` with what is wrong with its certificate, `io`, `unsupported` where the runtime has no such credentials, `corrupt` when the server has said something in clear behind its consent. */
export async function startTls(
  link: Link,
  tls: NbdTls,
  { name, host, timeout }: { name: string; host: string; timeout: number },
): Promise<Link> {
  if (!link.receiver.detach()) {
    throw new MoraineError('corrupt', 'the server sent data in clear after it agreed to TLS', {
      path: name,
      field: 'starttls',
    })
  }
  refuseUnknown(tls, name)
  const receiver = new Receiver()
  const socket = connect(optionsFor(link, tls, host))
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => fail(new Error('the server was silent')), timeout)
    const fail = (cause: Error) => {
      clearTimeout(timer)
      socket.on('error', () => {})
      socket.destroy()
      reject(tlsError(cause, name, tls.hostname ?? host))
    }
    socket.once('error', fail)
    socket.once('close', () => fail(new Error('the server closed the connection')))
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      socket.removeAllListeners('error')
      socket.removeAllListeners('close')
      resolve()
    })
  })
  receiver.attach(socket, name)
  return { socket, receiver }
}

/** Bun's TLS has certificates only: BoringSSL knows ciphers of pre-shared keys, but Bun 1.4.5 never asks `pskCallback`; anonymous ciphers BoringSSL has not. */
function refuseUnknown({ psk, anonymous }: NbdTls, name: string): void {
  if (process.versions.bun === undefined || (psk === undefined && anonymous !== true)) return
  const what = psk === undefined ? 'anonymous credentials' : 'pre-shared keys'
  throw new MoraineError('unsupported', `the TLS of this program has no ${what}`, {
    path: name,
    field: 'tls-creds',
    hint: 'The same command run by Node has them, and certificates (tls-creds-x509) work everywhere.',
  })
}

function optionsFor({ socket }: Link, tls: NbdTls, host: string): ConnectionOptions {
  const { ca, cert, key, passphrase, hostname, psk } = tls
  const own = hostname ?? host
  const common: ConnectionOptions = { socket, ...(isIP(own) === 0 ? { servername: own } : { host: own }) }
  if (psk !== undefined) {
    // Pre-shared keys of this kind end with TLS 1.2; the key is all that either side proves.
    return {
      ...common,
      maxVersion: 'TLSv1.2',
      ciphers: 'PSK:!eNULL',
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ psk: psk.key, identity: psk.identity }),
    }
  }
  if (tls.anonymous === true) {
    // Such ciphers ended with TLS 1.2 too, and OpenSSL has them at its lowest level only.
    return { ...common, maxVersion: 'TLSv1.2', ciphers: 'ADH:AECDH:!eNULL:@SECLEVEL=0', rejectUnauthorized: false }
  }
  return {
    ...common,
    rejectUnauthorized: tls.verifyPeer !== false,
    ...(tls.nameless === true && { checkServerIdentity: () => new Error(noName) }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  }
}

const noName = 'No hostname for certificate validation'

/** What QEMU says of a server that cannot prove who it is, where it has words for it. */
function refusalOf(cause: Error, code: string, host: string): string | undefined {
  if (cause.message === noName) return noName
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `Certificate does not match the hostname ${host}`
  if (code === 'CERT_HAS_EXPIRED') return 'The certificate has expired'
  if (code === 'CERT_NOT_YET_VALID') return 'The certificate is not yet activated'
  if (/SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)/.test(code)) return "The certificate hasn't got a known issuer"
  return undefined
}

function tlsError(cause: Error, name: string, host: string): MoraineError {
  const code = codeOf(cause)
  const reason = refusalOf(cause, code, host)
  const refused = reason !== undefined || /CERT|SIGNED|ALTNAME|ISSUER|UNABLE_TO/.test(code)
  return new MoraineError(refused ? 'denied' : 'io', reason ?? `TLS handshake failed: ${cause.message}`, {
    path: name,
    code: refused ? undefined : 'EPROTO',
    cause,
  })
}
