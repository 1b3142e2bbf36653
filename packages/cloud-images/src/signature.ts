/** OpenPGP signatures around a text (RFC 9580, 7: cleartext signature framework), beside a file, and beside an image, judged by a keyring that the caller pins. The library is loaded when the first
 *  signature is met. Nothing is ever fetched from a key server. */
import { MoraineError } from '@moraine/engine'
import type { PublicKey, VerifyMessageResult } from 'openpgp'

/** Keys that may vouch for a catalogue. */
export interface Keyring {
  readonly keys: readonly PublicKey[]
  /** Where the keys come from, for messages. */
  readonly name: string
}

/** Who signed, and when. */
export interface Signed {
  /** Of the primary key, hexadecimal, upper case. */
  readonly fingerprint: string
  readonly userId: string
  readonly at: Date
}

const load = () => import('openpgp')

/** Bytes that a keyring may have: Debian's own, the largest about, has 32 MB; no publisher of images needs a hundredth of that. */
const mostKeyringBytes = 4 * 1024 * 1024

/** Reads a keyring: armoured, also several blocks in a row, or binary, as `gpg --export` writes it.
 *  @throws MoraineError `invalid`, `limit` */
export async function readKeyring(bytes: string | Uint8Array, name: string): Promise<Keyring> {
  if (bytes.length > mostKeyringBytes) {
    throw new MoraineError('limit', `the keyring is larger than ${mostKeyringBytes} bytes`, { path: name })
  }
  const { readKeys } = await load()
  const text = typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('latin1')
  const blocks = text.match(/-----BEGIN PGP PUBLIC KEY BLOCK-----[\s\S]*?-----END PGP PUBLIC KEY BLOCK-----/g)
  try {
    const read =
      blocks === null
        ? [await readKeys({ binaryKeys: typeof bytes === 'string' ? Buffer.from(bytes) : bytes })]
        : await Promise.all(blocks.map((armoredKeys) => readKeys({ armoredKeys })))
    const keys = read.flat()
    if (keys.length === 0) throw new Error('it has no key')
    if (keys.some((key) => key.isPrivate())) throw new Error('it has a secret key, which does not belong here')
    return { keys, name }
  } catch (error) {
    throw new MoraineError('invalid', `this is no keyring: ${(error as Error).message}`, {
      path: name,
      rule: 'OpenPGP public keys, armoured or binary, as gpg --export writes them',
      cause: error,
    })
  }
}

/** Verifies a clear-signed text and gives the text that was signed: nothing before or behind counts.
 *  The text is taken out here, as the library's reader takes ten seconds for the largest catalogues; what is given back is what was verified, so that a text taken out wrongly is one that does not hold.
 *  @param now The time by which signature and key are judged.
 *  @throws MoraineError `denied` when nobody of the keyring signed it, or it was changed; `invalid` when it is no clear-signed text */
export async function verifyInside(
  message: Uint8Array,
  keyring: Keyring,
  path: string,
  now: Date,
): Promise<{ text: string; signed: Signed }> {
  const { text, signature } = splitClearText(decode(message, path), path)
  const canonical = Buffer.from(text.replaceAll('\n', '\r\n'))
  const signed = await verifyBeside(canonical, Buffer.from(signature), keyring, path, now)
  return { text, signed }
}

const messageBegin = '-----BEGIN PGP SIGNED MESSAGE-----'
const signatureBegin = '-----BEGIN PGP SIGNATURE-----'
const signatureEnd = '-----END PGP SIGNATURE-----'

/** The text of a clear-signed message, without escapes and blanks at the ends of lines, and its signature, still armoured. Nothing is verified. Source: RFC 9580, 7.
 *  @throws MoraineError `invalid` */
export function splitClearText(message: string, path: string): { text: string; signature: string } {
  const wrong = (rule: string) => new MoraineError('invalid', 'this is no clear-signed text', { path, rule })
  const lines = message.includes('\r') ? message.replaceAll('\r\n', '\n') : message
  const begin = lines.startsWith(messageBegin) ? 0 : lines.indexOf(`\n${messageBegin}\n`) + 1
  if (!lines.startsWith(`${messageBegin}\n`, begin)) throw wrong(`a line ${messageBegin}`)
  const headersAt = begin + messageBegin.length + 1
  const [headers] = /^(?:Hash: [\w, -]+\n)*[ \t]*\n/.exec(lines.slice(headersAt, headersAt + 4096)) ?? []
  if (headers === undefined) throw wrong('no headers but Hash, and an empty line after them')
  const textAt = headersAt + headers.length
  const textEnd = lines.indexOf(`\n${signatureBegin}\n`, textAt - 1)
  const end = textEnd < 0 ? -1 : lines.indexOf(`\n${signatureEnd}`, textEnd)
  if (end < 0) throw wrong(`a signature from ${signatureBegin} to ${signatureEnd}`)
  const written = lines.slice(textAt, Math.max(textAt, textEnd))
  if (/^-(?! )/m.test(written)) throw wrong("a dash at the beginning of a line is escaped as '- '")
  // Without a look at what stands before, a long line of blanks would be searched from each of them.
  const text = written.replace(/^- /gm, '').replace(/(?<![ \t\r])[ \t\r]+$/gm, '')
  return { text, signature: `${lines.slice(textEnd + 1, end + 1 + signatureEnd.length)}\n` }
}

/** Verifies a signature that stands beside a file, armoured or binary.
 *  @throws MoraineError `denied`, `invalid` */
export async function verifyBeside(
  data: Uint8Array | AsyncIterable<Uint8Array>,
  signature: Uint8Array,
  keyring: Keyring,
  path: string,
  now: Date,
): Promise<Signed> {
  const { createMessage, readSignature, verify } = await load()
  const isArmoured = Buffer.from(signature.subarray(0, 64)).toString('latin1').trimStart().startsWith('-----BEGIN PGP')
  const read = await (isArmoured
    ? readSignature({ armoredSignature: decode(signature, path) })
    : readSignature({ binarySignature: signature })
  ).catch((error: unknown) => {
    throw new MoraineError('invalid', `this is no signature: ${(error as Error).message}`, { path })
  })
  const options = { signature: read, verificationKeys: [...keyring.keys], date: now, format: 'binary' as const }
  if (data instanceof Uint8Array) {
    const message = await createMessage({ binary: data })
    const result = await verify({ message, ...options }).catch((error) => refuse(path, (error as Error).message, error))
    return await judge(result, keyring, path, now)
  }
  const message = await createMessage({ binary: ReadableStream.from(data) as ReadableStream<Uint8Array> })
  const result = await verify({ message, ...options }).catch((error) => refuse(path, (error as Error).message, error))
  // The signatures see what is read here; the library replaces the reader alone, so that the stream cannot be iterated.
  const reader = (result.data as ReadableStream<Uint8Array>).getReader()
  while (!(await reader.read()).done);
  return await judge(result, keyring, path, now)
}

/** One good signature of the keyring is enough; one of it that does not hold spoils all.
 *  @throws MoraineError `denied` */
async function judge(
  { signatures }: Pick<VerifyMessageResult, 'signatures'>,
  keyring: Keyring,
  path: string,
  now: Date,
): Promise<Signed> {
  const strangers: string[] = []
  let good: Signed | undefined
  for (const { keyID, verified, signature } of signatures) {
    const id = keyID.toHex().toUpperCase()
    const key = keyring.keys.find((one) => one.getKeyIDs().some((known) => known.equals(keyID)))
    if (key === undefined) {
      await verified.catch(() => {})
      strangers.push(id)
      continue
    }
    const fingerprint = key.getFingerprint().toUpperCase()
    await verified.catch((error: unknown) => refuse(path, (error as Error).message, error, fingerprint))
    await checkExpiry(key, path, now)
    const [packet] = (await signature).packets
    good ??= { fingerprint, userId: key.getUserIDs()[0] ?? '', at: packet?.created ?? now }
  }
  if (good !== undefined) return good
  if (strangers.length === 0) return refuse(path, 'it has no signature')
  throw new MoraineError(
    'denied',
    `the catalogue is signed by ${strangers.join(', ')}, and no such key is in the keyring`,
    {
      path,
      hint: `The keyring is ${keyring.name}. Another one can be given with --keyring FILE, when you know whose key that is.`,
    },
  )
}

/** A key that has run out vouches for nothing any more, whenever its owner says that the signature was made.
 *  @throws MoraineError `denied` */
async function checkExpiry(key: PublicKey, path: string, now: Date): Promise<void> {
  const end = await key.getExpirationTime().catch(() => null)
  if (!(end instanceof Date) || end > now) return
  throw new MoraineError('denied', `the key ${key.getFingerprint().toUpperCase()} expired on ${day(end)}`, {
    path,
    hint: 'A newer keyring of the publisher can be given with --keyring FILE.',
  })
}

function refuse(path: string, why: string, cause?: unknown, fingerprint?: string): never {
  const by = fingerprint === undefined ? '' : ` by ${fingerprint}`
  const text = why.replace(/^Error verifying signed message: /, '')
  throw new MoraineError('denied', `the signature${by} does not hold: ${text}`, { path, cause })
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new MoraineError('invalid', 'this is no text in UTF-8', { path, cause: error })
  }
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10)
}
