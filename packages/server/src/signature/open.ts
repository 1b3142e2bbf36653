/** The check of signatures that the settings ask for. */
import { readFileSync, statSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'
import type { Config } from '../config.ts'
import type { Identity } from '../identity/identity.ts'
import { barbicanCertificates } from './barbican.ts'
import { certificatesIn } from './certificates.ts'
import { type CertificatePlaces, Signatures } from './signatures.ts'

/** @param onTrouble Told why a certificate could not be had. @throws MoraineError `missing` for a folder of certificates that is not there. */
export function openSignatures(
  config: Pick<Config, 'verifySignatures' | 'signatureCertificates' | 'keystoneCa' | 'keystoneTimeoutSeconds'>,
  identity: Identity,
  onTrouble: (error: unknown) => void,
): Signatures {
  const { verifySignatures, signatureCertificates: folder, keystoneCa, keystoneTimeoutSeconds } = config
  if (!verifySignatures) return new Signatures(undefined)
  const places: CertificatePlaces = {}
  if (folder !== '') {
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
      const field = 'signatureCertificates'
      throw new MoraineError('missing', `signatureCertificates: ${folder} is no folder`, { field })
    }
    places.files = certificatesIn(folder)
  }
  const endpointOf = identity.endpointOf?.bind(identity)
  if (endpointOf !== undefined) {
    const ca = keystoneCa === '' ? undefined : readFileSync(keystoneCa, 'utf8')
    places.keyManager = barbicanCertificates({ endpointOf, ca, timeoutSeconds: keystoneTimeoutSeconds, onTrouble })
  }
  return new Signatures(places)
}
