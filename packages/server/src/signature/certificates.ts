/** Where the certificates are by which images are signed: a folder of the operator's. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { uncheckable } from './signature.ts'

/** Finds the certificate of an id. Resolves to undefined when there is none. @param token Of the caller. @throws SignatureError for one that cannot be used. */
export type FindCertificate = (id: string, token: string | undefined) => Promise<X509Certificate | undefined>

/** The endings that a file may have behind its id; PEM or DER, whatever it is called. */
const endings = ['', '.pem', '.crt', '.cer', '.der']

/** What can be the name of a file in the folder, and no way out of it. */
const plainName = /^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/

/** Certificates in files that are called by their ids. */
export function certificatesIn(folder: string): FindCertificate {
  return async (id) => {
    if (!plainName.test(id)) return undefined
    for (const ending of endings) {
      try {
        return readCertificate(id, await readFile(join(folder, `${id}${ending}`)))
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === undefined) throw error
        if (code !== 'ENOENT') throw uncheckable(`Unable to retrieve certificate with ID: ${id}`)
      }
    }
    return undefined
  }
}

/** @throws SignatureError */
export function readCertificate(id: string, bytes: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(bytes)
  } catch {
    throw uncheckable(`Unable to retrieve certificate with ID: ${id}`)
  }
}
