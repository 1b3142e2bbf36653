/** Which password opens an image, asked for in QEMU's words. Passwords themselves never stand in messages. */
import { type CryptoLibrary, type Encryption, type ErrorPlace, MoraineError, type Secrets } from '../core/index.ts'

/** Whoever opens or makes an encrypted image. */
export interface KeyContext {
  crypto?: CryptoLibrary | undefined
  secrets?: Secrets | undefined
  encryption?: Encryption | undefined
}

/** The password that a caller named.
 *  @param option What the option is called here: `key-secret`, or with its prefix in an image that can be encrypted in several ways.
 *  @throws MoraineError `denied` when none is named, `missing` when there is none of that name, `invalid` when it is no text. */
export function passwordOf({ secrets, encryption }: KeyContext, option: string, place: ErrorPlace): Uint8Array {
  return secretOf(secrets, encryption?.keySecret, option, place)
}

/** The same by its id. */
export function secretOf(
  secrets: Secrets | undefined,
  id: string | undefined,
  option: string,
  place: ErrorPlace,
): Uint8Array {
  const at = { ...place, field: option }
  if (id === undefined) {
    throw new MoraineError('denied', `Parameter '${option}' is required for cipher`, {
      ...at,
      rule: 'the id of a secret that holds the password',
      hint: 'The image is encrypted: it opens with the secret that holds its password.',
    })
  }
  const secret = secrets?.get(id)
  if (secret === undefined) throw new MoraineError('missing', `No secret with id '${id}'`, at)
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(secret)
  } catch {
    throw new MoraineError('invalid', `Data from secret ${id} is not valid UTF-8`, at)
  }
  return secret
}

/** The cryptography at hand.
 *  @throws MoraineError `unsupported` when there is none. */
export function cryptoOf({ crypto }: KeyContext, place: ErrorPlace): CryptoLibrary {
  if (crypto !== undefined) return crypto
  throw new MoraineError('unsupported', 'the image is encrypted, and no cryptography was handed in', {
    ...place,
    field: 'crypto',
    rule: 'a CryptoLibrary, such as nodeCrypto',
  })
}
