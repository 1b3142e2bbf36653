/** The crypto of Amazon's bundles by Node's own library. */
import type * as NodeCrypto from 'node:crypto'
import { MoraineError } from '../../core/index.ts'
import type { BundleCrypto } from '../../crypt/bundle-crypto.ts'

let loaded: typeof NodeCrypto | undefined

/** Loaded when first needed: few commands need it. */
function library(): typeof NodeCrypto {
  loaded ??= process.getBuiltinModule('node:crypto')
  return loaded
}

function invalid<Result>(what: string, action: () => Result): Result {
  try {
    return action()
  } catch (cause) {
    throw new MoraineError('invalid', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}

const padding = () => library().constants.RSA_PKCS1_PADDING

function publicKey(certificateOrKey: string): NodeCrypto.KeyObject {
  return invalid('this is no certificate and no RSA key', () => rsa(library().createPublicKey(certificateOrKey)))
}

function privateKeyOf(text: string): NodeCrypto.KeyObject {
  return invalid('this is no private RSA key', () => rsa(library().createPrivateKey(text)))
}

function rsa(key: NodeCrypto.KeyObject): NodeCrypto.KeyObject {
  if (key.asymmetricKeyType === 'rsa') return key
  throw new Error(`it is a key of kind ${key.asymmetricKeyType}`)
}

/** The message within its padding. Not every runtime takes it off any more: those that answer others must not tell them whether it was right, which is of no use with a file of one's own.
 *  Source: RFC 8017, 7.2.2. */
function unpadded(block: Uint8Array): Uint8Array {
  const end = block.indexOf(0, 2)
  if (block[0] !== 0 || block[1] !== 2 || end < 10) throw new Error('the padding is wrong')
  return block.subarray(end + 1)
}

/** Bundles were designed with SHA-1 and RSA of PKCS#1 v1.5; nothing newer would be read anywhere. */
export const nodeBundleCrypto: BundleCrypto = {
  random: (count) => library().randomBytes(count),
  sha1() {
    const hash = library().createHash('sha1')
    return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest('hex') }
  },
  cipher(direction, key, iv) {
    const { createCipheriv, createDecipheriv } = library()
    const cipher = (direction === 'encrypt' ? createCipheriv : createDecipheriv)('aes-128-cbc', key, iv)
    return {
      update: (bytes) => cipher.update(bytes),
      final() {
        try {
          return cipher.final()
        } catch (cause) {
          throw new MoraineError(
            'corrupt',
            'the encrypted bytes have a wrong end: another key, or they are damaged or cut',
            { cause },
          )
        }
      },
    }
  },
  seal: (certificate, plain) =>
    invalid('it cannot be encrypted with this certificate', () =>
      library().publicEncrypt({ key: publicKey(certificate), padding: padding() }, plain),
    ),
  unseal: (key, sealed) =>
    invalid('it cannot be decrypted with this key', () =>
      unpadded(
        library().privateDecrypt({ key: privateKeyOf(key), padding: library().constants.RSA_NO_PADDING }, sealed),
      ),
    ),
  sign: (key, bytes) => invalid('it cannot be signed', () => library().sign('sha1', bytes, privateKeyOf(key))),
  verify: (key, bytes, signature) => library().verify('sha1', bytes, publicKey(key), signature),
}
