/** Checks whether image data is what somebody signed, where the image's properties say so. */
import type { Image } from '../catalog/image.ts'
import type { Verification } from '../store/hash-protocol.ts'
import { type FindCertificate, readCertificate } from './certificates.ts'
import { readSigned, SignatureError, uncheckable, verificationOf, WrongSignature } from './signature.ts'

/** Where certificates are looked for, in this order. */
export interface CertificatePlaces {
  /** Needs no token. */
  files?: FindCertificate | undefined
  /** Is asked in the name of whoever brings the data. */
  keyManager?: FindCertificate | undefined
}

/** A certificate as it goes along with a task, which has no token. */
export type CarriedCertificate = { readonly id: string; readonly pem: string }

type Signable = Pick<Image, 'id' | 'properties'>

export class Signatures {
  readonly #places: CertificatePlaces | undefined

  /** @param places Undefined: nothing is verified. */
  constructor(places: CertificatePlaces | undefined) {
    this.#places = places
  }

  /** What is to be checked when the data of an image comes in; undefined: nothing. @param from The caller's token, or the certificate that was fetched with it.
   *  @throws SignatureError when it cannot be checked. */
  async verification(
    { id, properties }: Signable,
    from: { token?: string | undefined; certificate?: CarriedCertificate | undefined } = {},
  ): Promise<Verification | undefined> {
    if (this.#places === undefined) return undefined
    const { files, keyManager } = this.#places
    try {
      const signed = readSigned(properties)
      if (signed === undefined) return undefined
      const { certificateId } = signed
      const carried = from.certificate?.id === certificateId ? from.certificate.pem : undefined
      const certificate =
        (await files?.(certificateId, undefined)) ??
        (carried === undefined ? undefined : readCertificate(certificateId, Buffer.from(carried))) ??
        (await keyManager?.(certificateId, from.token))
      if (certificate === undefined) throw uncheckable(`Certificate not found with ID: ${certificateId}`)
      return verificationOf(signed, certificate)
    } catch (error) {
      throw error instanceof SignatureError ? new SignatureError(told(id, error.message)) : error
    }
  }

  /** The certificate of a signed image from where a token is needed, for a task that will have none. What cannot be had now the task says when it runs. */
  async fetched(
    { properties }: Pick<Image, 'properties'>,
    token: string | undefined,
  ): Promise<CarriedCertificate | undefined> {
    const id = properties.get('img_signature_certificate_uuid')
    const { keyManager } = this.#places ?? {}
    if (id === undefined || keyManager === undefined) return undefined
    try {
      const certificate = await keyManager(id, token)
      return certificate === undefined ? undefined : { id, pem: certificate.toString() }
    } catch (error) {
      if (error instanceof SignatureError) return undefined
      throw error
    }
  }
}

/** What a wrong signature is answered with. */
export function wrongSignature(id: string): WrongSignature {
  return new WrongSignature(told(id, 'Signature verification failed'))
}

function told(id: string, reason: string): string {
  return `Signature verification failed for image ${id}: ${reason}`
}
