/** Digests and signatures by Node's own cryptography. */
import type * as Crypto from 'node:crypto'
import { type CertificateFacts, MoraineError, type Signing } from '../../core/index.ts'

/** Loaded when it is first needed: it takes 5 ms. */
const crypto = (): typeof Crypto => process.getBuiltinModule('node:crypto')

const certificate = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

function read(pem: string): Crypto.X509Certificate[] {
  const { X509Certificate } = crypto()
  const blocks = pem.match(certificate) ?? []
  if (blocks.length === 0)
    throw new MoraineError('invalid', 'there is no certificate in PEM', {
      field: 'certificate',
      rule: 'BEGIN CERTIFICATE',
    })
  return blocks.slice(0, 32).map((block) => {
    try {
      return new X509Certificate(block)
    } catch (cause) {
      throw new MoraineError('invalid', 'a certificate is damaged', {
        field: 'certificate',
        rule: 'X.509 in PEM',
        cause,
      })
    }
  })
}

function factsOf(found: Crypto.X509Certificate): CertificateFacts {
  const { publicKey } = found
  return {
    subject: found.subject.replaceAll('\n', ', '),
    issuer: found.issuer.replaceAll('\n', ', '),
    notBefore: Date.parse(found.validFrom),
    notAfter: Date.parse(found.validTo),
    fingerprint: found.fingerprint256.replaceAll(':', '').toLowerCase(),
    selfSigned: found.subject === found.issuer && found.verify(publicKey),
    keyType: publicKey.asymmetricKeyType ?? 'unknown',
    keyBits: publicKey.asymmetricKeyDetails?.modulusLength,
  }
}

/** Digests and signatures by Node's own cryptography. */
export const nodeSigning: Signing = {
  digest(name) {
    const hash = crypto().createHash(name)
    return {
      update(bytes) {
        hash.update(bytes)
      },
      hex: () => hash.digest('hex'),
    }
  },
  certificates: (pem) => read(pem).map(factsOf),
  verify(message, signature, digest, pem) {
    const [first] = read(pem)
    return first !== undefined && crypto().verify(digest, message, first.publicKey, signature)
  },
  sign(message, digest, { pem, passphrase, certificate: text }) {
    const [first] = read(text)
    let key: Crypto.KeyObject
    try {
      key = crypto().createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) })
    } catch (cause) {
      throw new MoraineError('invalid', 'the private key cannot be read', {
        field: 'key',
        rule: 'PEM, with the right passphrase',
        cause,
      })
    }
    if (first?.checkPrivateKey(key) !== true) {
      throw new MoraineError('invalid', 'the private key is not that of the certificate', {
        field: 'key',
        rule: 'the key of the first certificate',
      })
    }
    return crypto().sign(digest, message, key)
  },
}
