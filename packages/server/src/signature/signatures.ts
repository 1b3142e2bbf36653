/** Checks whether image data is what somebody signed, where the image's properties say so. */
import type { Image } from '../catalog/image.ts'
import type { Verification } from '../store/hash-protocol.ts'
import type { FindCertificate } from './certificates.ts'
import { readSigned, SignatureError, uncheckable, verificationOf } from './signature.ts'

export class Signatures {
  readonly #find: readonly FindCertificate[] | undefined

  /** @param find The places of certificates, in the order in which they are looked for; undefined: nothing is verified. */
  constructor(find: readonly FindCertificate[] | undefined) {
    this.#find = find
  }

  /** What is to be checked when the data of an image comes in; undefined: nothing. @param token Of the caller, where certificates are asked for in its name.
   *  @throws SignatureError when it cannot be checked. */
  async verification(
    { id, properties }: Pick<Image, 'id' | 'properties'>,
    token?: string | undefined,
  ): Promise<Verification | undefined> {
    if (this.#find === undefined) return undefined
    try {
      const signed = readSigned(properties)
      if (signed === undefined) return undefined
      for (const find of this.#find) {
        const certificate = await find(signed.certificateId, token)
        if (certificate !== undefined) return verificationOf(signed, certificate)
      }
      throw uncheckable(`Certificate not found with ID: ${signed.certificateId}`)
    } catch (error) {
      throw error instanceof SignatureError ? of(id, error) : error
    }
  }
}

/** What a wrong signature is answered with. */
export function wrongSignature(id: string): SignatureError {
  return of(id, new SignatureError('Signature verification failed'))
}

function of(id: string, { message }: SignatureError): SignatureError {
  return new SignatureError(`Signature verification failed for image ${id}: ${message}`)
}
