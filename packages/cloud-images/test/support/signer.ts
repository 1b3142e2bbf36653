/** Keys and signatures for tests, made with the OpenPGP library. */
import {
  type Config,
  createCleartextMessage,
  createMessage,
  generateKey,
  type PrivateKey,
  readPrivateKey,
  sign,
} from 'openpgp'

export interface Signer {
  readonly key: PrivateKey
  /** Armoured. */
  readonly publicKey: string
  readonly fingerprint: string
}

/** @param date When the key was made. */
export async function makeSigner(name: string, date: Date, seconds = 0): Promise<Signer> {
  const { privateKey, publicKey } = await generateKey({
    type: 'ecc',
    curve: 'ed25519Legacy',
    userIDs: [{ name, email: 'images@example.org' }],
    date,
    keyExpirationTime: seconds,
    format: 'armored',
  })
  const key = await readPrivateKey({ armoredKey: privateKey })
  return { key, publicKey, fingerprint: key.getFingerprint().toUpperCase() }
}

/** A clear-signed text. */
export async function signInside(text: string, { key }: Signer, date: Date, config?: Partial<Config>): Promise<string> {
  const message = await createCleartextMessage({ text })
  return await sign({ message, signingKeys: key, date, ...(config === undefined ? {} : { config: config as Config }) })
}

/** A signature that stands beside. */
export async function signBeside(bytes: Uint8Array, { key }: Signer, date: Date): Promise<string> {
  const message = await createMessage({ binary: bytes })
  return await sign({ message, signingKeys: key, date, detached: true })
}
