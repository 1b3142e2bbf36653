/** Keys and certificates that tests sign images with, made by openssl, and what cursive, which Glance asks, says of a signature. */
import { constants, sign } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runOk } from '../../../engine/test/support/process.ts'

/** Programs and modules that the tests need. */
export const cursive = '/usr/lib/python3/dist-packages/cursive/signature_utils.py'

export interface Signer {
  /** The certificate's, under which its file lies in the folder. */
  id: string
  /** PEM. */
  key: string
  kind: 'rsa' | 'dsa' | 'ec'
}

const kinds = {
  rsa: ['-newkey', 'rsa:2048'],
  'rsa-1024': ['-newkey', 'rsa:1024'],
  p384: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:secp384r1'],
  p521: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:secp521r1'],
  p256: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
  k409: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:sect409k1'],
  r571: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:sect571r1'],
  dsa: [],
} as const
export type SignerName = keyof typeof kinds

/** Makes signers of these kinds, their certificates in `folder`. */
export async function makeSigners(folder: string, names: readonly SignerName[]): Promise<Record<SignerName, Signer>> {
  const keys = join(folder, '..', 'keys')
  mkdirSync(keys, { recursive: true })
  mkdirSync(folder, { recursive: true })
  const signers: Partial<Record<SignerName, Signer>> = {}
  for (const [at, name] of names.entries()) {
    const id = `00000000-0000-4000-8000-00000000000${at}`
    const key = join(keys, `${name}.pem`)
    let made: readonly string[] = kinds[name]
    if (name === 'dsa') {
      const parameters = join(keys, 'dsa-parameters.pem')
      const bits = ['-algorithm', 'DSA', '-pkeyopt', 'dsa_paramgen_bits:1024']
      await runOk('openssl', ['genpkey', '-genparam', ...bits, '-out', parameters])
      await runOk('openssl', ['genpkey', '-paramfile', parameters, '-out', key])
      made = ['-key', key]
    }
    const facts = ['-nodes', '-sha256', '-days', '30', '-subj', `/CN=${name}`, '-out', join(folder, `${id}.pem`)]
    await runOk('openssl', ['req', '-x509', ...made, ...facts, ...(name === 'dsa' ? [] : ['-keyout', key])])
    const kind = name === 'dsa' ? 'dsa' : name.startsWith('rsa') ? 'rsa' : 'ec'
    signers[name] = { id, key: readFileSync(key, 'utf8'), kind }
  }
  return signers as Record<SignerName, Signer>
}

/** A signature of data, in base64. @param salt Bytes of it in RSA-PSS; default: as many as fit. */
export function signed(data: Uint8Array, { key, kind }: Signer, hash: string, salt?: number): string {
  const name = hash.toLowerCase().replace('-', '')
  const longest = constants.RSA_PSS_SALTLEN_MAX_SIGN
  const padded = kind === 'rsa' ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: salt ?? longest } : {}
  return sign(name, data, { key, ...padded }).toString('base64')
}

/** The properties of an image that is signed. */
export function signatureProperties(signature: string, { id }: Pick<Signer, 'id'>, hash: string, keyType: string) {
  return {
    img_signature: signature,
    img_signature_hash_method: hash,
    img_signature_key_type: keyType,
    img_signature_certificate_uuid: id,
  }
}

/** Reads `[folder, [[properties, data in base64], …]]`, says for each `good` or why not. */
const judge = `
import base64, json, os, sys
from cryptography import x509, exceptions
from cursive import exception, signature_utils
folder, cases = json.load(sys.stdin)
def get_certificate(context, uuid):
    path = os.path.join(folder, uuid + '.pem')
    if not os.path.exists(path):
        raise exception.SignatureVerificationError(reason='Certificate not found with ID: %s' % uuid)
    return x509.load_pem_x509_certificate(open(path, 'rb').read())
signature_utils.get_certificate = get_certificate
answers = []
for properties, data in cases:
    if not signature_utils.should_create_verifier(properties):
        answers.append('unsigned')
        continue
    try:
        verifier = signature_utils.get_verifier(None, properties['img_signature_certificate_uuid'],
            properties['img_signature_hash_method'], properties['img_signature'], properties['img_signature_key_type'])
        verifier.update(base64.b64decode(data))
        verifier.verify()
        answers.append('good')
    except exceptions.InvalidSignature:
        answers.append('Signature verification failed')
    except exception.SignatureVerificationError as error:
        answers.append(str(error))
    except Exception as error:
        answers.append('%s: %s' % (type(error).__name__, error))
print(json.dumps(answers))
`

/** What cursive says of each. */
export async function askCursive(
  folder: string,
  cases: readonly { properties: Record<string, string>; data: Uint8Array }[],
): Promise<string[]> {
  const asked = cases.map(({ properties, data }) => [properties, Buffer.from(data).toString('base64')])
  const stdout = await runOk('/usr/bin/python3', ['-c', judge], { input: JSON.stringify([folder, asked]) })
  return JSON.parse(stdout) as string[]
}
