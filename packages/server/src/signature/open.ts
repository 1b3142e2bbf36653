/** The check of signatures that the settings ask for. */
import { statSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'
import type { Config } from '../config.ts'
import { certificatesIn } from './certificates.ts'
import { Signatures } from './signatures.ts'

/** @throws MoraineError `missing` for a folder of certificates that is not there. */
export function openSignatures({
  verifySignatures,
  signatureCertificates: folder,
}: Pick<Config, 'verifySignatures' | 'signatureCertificates'>): Signatures {
  if (!verifySignatures) return new Signatures(undefined)
  if (folder === '') return new Signatures([])
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new MoraineError('missing', `signatureCertificates: ${folder} is no folder`, {
      field: 'signatureCertificates',
    })
  }
  return new Signatures([certificatesIn(folder)])
}
