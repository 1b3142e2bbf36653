/** An authority and what it vouches for, made for one test. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runOk } from '../../../engine/test/support/process.ts'

/** Makes folders as QEMU's `tls-creds-x509` has them: `ca-cert.pem` in all; certificates of a server for `localhost` and 127.0.0.1, and of a client. */
export async function makeCertificates(
  folder: string,
): Promise<{ server: string; client: string; anonymous: string; stranger: string }> {
  const folders = Object.fromEntries(
    ['server', 'client', 'anonymous', 'stranger'].map((name) => {
      const path = join(folder, name)
      mkdirSync(path, { recursive: true })
      return [name, path]
    }),
  ) as { server: string; client: string; anonymous: string; stranger: string }
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const openssl = (...args: string[]) => runOk('openssl', args, { cwd: folder })
  const authority = async (name: string, into: string[]) => {
    await openssl(
      'req',
      '-x509',
      ...key,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
    )
    for (const target of into) await openssl('x509', '-in', `${name}.pem`, '-out', join(target, 'ca-cert.pem'))
  }
  const member = async (role: 'server' | 'client', names: string) => {
    writeFileSync(
      join(folder, `${role}.ext`),
      `subjectAltName=${names}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=${role}Auth\n`,
    )
    await openssl(
      'req',
      ...key,
      '-subj',
      `/CN=${role}`,
      '-keyout',
      join(folders[role], `${role}-key.pem`),
      '-out',
      `${role}.csr`,
    )
    await openssl(
      'x509',
      '-req',
      '-in',
      `${role}.csr`,
      '-CA',
      'authority.pem',
      '-CAkey',
      'authority.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      `${role}.ext`,
      '-out',
      join(folders[role], `${role}-cert.pem`),
    )
  }
  await authority('authority', [folders.server, folders.client, folders.anonymous])
  await authority('stranger', [folders.stranger])
  await member('server', 'DNS:localhost,IP:127.0.0.1')
  await member('client', 'DNS:client')
  return folders
}
