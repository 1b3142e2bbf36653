/** Keys with certificates that are signed by themselves, made by openssl. */
import { execFileSync } from 'node:child_process'
import { tool } from './process.ts'

/** Writes an RSA key and its certificate, both in PEM, for somebody of this name. */
export function makeCertificate(key: string, certificate: string, name: string): void {
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate]
  execFileSync(tool('openssl').path ?? 'openssl', [...request, '-days', '9', '-subj', `/CN=${name}`], { stdio: 'pipe' })
}
