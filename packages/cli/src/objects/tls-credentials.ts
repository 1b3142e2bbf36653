/** Credentials for TLS, as `--object tls-creds-x509,…`, `tls-creds-psk,…` and `tls-creds-anon,…` make them for NBD. Properties, order of checks and words: qemu-img 7.2. */
import { readFileSync } from 'node:fs'
import { codeOf, strerror } from '@moraine/engine/node'
import type { NbdTls } from '@moraine/nbd'
import { Failure } from '../failure.ts'
import type { Objects } from './objects.ts'
import { lookUpSecret } from './secrets.ts'

/** What an object of this kind stands for. */
export interface TlsCredentials {
  endpoint: 'client' | 'server'
  /** What a client says; nothing for a server, which no verb is with such an object. */
  tls: NbdTls
  /** The server proves itself by a name in its certificate. */
  named: boolean
}

/** What it proves itself by. */
export type TlsKind = 'tls-creds-x509' | 'tls-creds-psk' | 'tls-creds-anon'

/** What the properties say. Which ciphers GnuTLS likes best (`priority`) means nothing to OpenSSL. */
export interface GivenTls {
  'verify-peer'?: boolean
  dir?: string
  endpoint?: 'client' | 'server'
  username?: string
  passwordid?: string
}

/** Makes credentials of the properties.
 *  @throws Failure */
export function readTlsCredentials(kind: TlsKind, given: GivenTls, objects: Objects): TlsCredentials {
  const { 'verify-peer': verify = true, endpoint = 'client', dir: folder, username = 'qemu', passwordid } = given
  if (kind === 'tls-creds-anon') return { endpoint, tls: { anonymous: true }, named: false }
  if (folder === undefined) throw new Failure("Missing 'dir' property value")
  if (kind === 'tls-creds-psk') {
    return { endpoint, tls: endpoint === 'client' ? readKey(folder, username) : {}, named: false }
  }
  const tls = readCertificates(folder, endpoint, passwordid, objects)
  return { endpoint, tls: { ...tls, ...(!verify && { verifyPeer: false }) }, named: verify }
}

function readKey(folder: string, username: string): NbdTls {
  const path = `${folder}/keys.psk`
  const line = readCredential(path)
    .toString('latin1')
    .split('\n')
    .find((text) => text.startsWith(`${username}:`))
  if (line === undefined) throw new Failure(`Username ${username} not found in PSK file ${path}`)
  const key = line.slice(username.length + 1).trim()
  if (!/^([0-9a-f]{2})+$/i.test(key)) throw new Failure('Cannot set PSK client credentials: Error in parsing.')
  return { psk: { identity: username, key: Buffer.from(key, 'hex') } }
}

function readCertificates(
  folder: string,
  endpoint: 'client' | 'server',
  passwordId: string | undefined,
  objects: Objects,
): NbdTls {
  const server = endpoint === 'server'
  const certPath = `${folder}/${endpoint}-cert.pem`
  const keyPath = `${folder}/${endpoint}-key.pem`
  const caPath = `${folder}/ca-cert.pem`
  const ca = readCredential(caPath)
  const cert = server ? readCredential(certPath) : readOptional(certPath)
  const key = server ? readCredential(keyPath) : readOptional(keyPath)
  const { X509Certificate, createPrivateKey } = process.getBuiltinModule('node:crypto')
  const isPem = (bytes: Buffer): boolean => {
    try {
      return new X509Certificate(bytes).subject !== ''
    } catch {
      return false
    }
  }
  if (!isPem(ca)) throw new Failure(`Unable to import CA certificate list ${caPath}`)
  if (cert === undefined) return { ca }
  if (!isPem(cert))
    throw new Failure(`Unable to import ${endpoint} certificate ${certPath}: Base64 unexpected header error.`)
  if (key === undefined) return { ca }
  const secret = passwordId === undefined ? undefined : lookUpSecret(objects, passwordId)
  const passphrase = secret === undefined ? undefined : Buffer.from(secret).toString()
  try {
    // An empty passphrase, so that nobody is asked for one.
    createPrivateKey({ key, passphrase: passphrase ?? '' })
  } catch (cause) {
    const words = /decrypt|passphrase|cipher/i.test(String(cause)) ? 'Decryption has failed.' : 'Error in parsing.'
    throw new Failure(`Cannot load certificate '${certPath}' & key '${keyPath}': ${words}`)
  }
  return { ca, cert, key, ...(passphrase === undefined ? {} : { passphrase }) }
}

function readCredential(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new Failure(`Unable to access credentials ${path}: ${strerror(codeOf(error))}`)
  }
}

function readOptional(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw new Failure(`Unable to access credentials ${path}: ${strerror(codeOf(error))}`)
  }
}
