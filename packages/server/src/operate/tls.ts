/** The operator's certificate. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { MoraineError } from '@moraine/engine'
import type { Config } from '../config.ts'

/** What a TLS server is made with. */
export interface Certificate {
  cert: string
  key: string
  minVersion: 'TLSv1.2'
}

/** Reads certificate and key; undefined when the service speaks plain HTTP. @throws MoraineError `missing` or `invalid` for files that cannot be used. */
export function readCertificate({ tlsCertificate, tlsKey }: Config): Certificate | undefined {
  if (tlsCertificate === '' && tlsKey === '') return undefined
  const cert = readSetting('tlsCertificate', tlsCertificate)
  const key = readSetting('tlsKey', tlsKey)
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    const reason = `tlsCertificate: ${tlsCertificate} and tlsKey: ${tlsKey} cannot be used together: ${(error as Error).message}`
    throw new MoraineError('invalid', reason, { field: 'tlsCertificate', cause: error })
  }
  return { cert, key, minVersion: 'TLSv1.2' }
}

function readSetting(name: string, path: string): string {
  if (path === '') {
    const other = name === 'tlsKey' ? 'tlsCertificate' : 'tlsKey'
    throw new MoraineError('invalid', `${name}: it must be given together with ${other}`, { field: name })
  }
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new MoraineError('missing', `${name}: cannot read ${path}: ${(error as Error).message}`, {
      field: name,
      cause: error,
    })
  }
}
