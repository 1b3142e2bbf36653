/** Manifests (`.mf`) and their signatures (`.cert`). Facts: DSP0243 2.1, section 5.2; spellings as VMware, VirtualBox, OpenSSL and coreutils write them. */
import { type DigestName, MoraineError } from '../../core/index.ts'

/** One line of a manifest. */
export interface ManifestEntry {
  file: string
  digest: DigestName
  /** Lower case. */
  hex: string
  line: number
  /** As the standard has it: `SHA256(name)= hex`. vSphere refuses other spellings. */
  strict: boolean
}

/** A manifest as it was read. */
export interface Manifest {
  name: string
  bytes: Uint8Array
  entries: readonly ManifestEntry[]
}

/** A signature of a manifest, with the certificates that stand behind it. */
export interface ManifestSignature {
  name: string
  /** The manifest that it names. */
  manifest: string
  digest: DigestName
  signature: Uint8Array
  pem: string
}

const digests: Readonly<Record<string, DigestName>> = {
  SHA1: 'sha1',
  SHA256: 'sha256',
  SHA384: 'sha384',
  SHA512: 'sha512',
  SHA2256: 'sha256',
  SHA2384: 'sha384',
  SHA2512: 'sha512',
}

const digits: Readonly<Record<DigestName, number>> = { sha1: 40, sha256: 64, sha384: 96, sha512: 128 }
const byDigits = new Map(Object.entries(digits).map(([name, length]) => [length, name as DigestName]))

const mostBytes = 16 * 1024 * 1024
const mostLines = 200_000

function refuse(path: string, line: number, value: string, rule: string): MoraineError {
  return new MoraineError('invalid', `the manifest has a line that is none, line ${line}`, {
    path,
    field: 'line',
    value: value.slice(0, 120),
    rule,
  })
}

/** The digest of a word such as `SHA256`, `SHA-256`, `SHA2-256`; undefined for another. */
function digestNamed(word: string): DigestName | undefined {
  const plain = word.toUpperCase().replace(/^RSA-/, '').replace(/[-_]/g, '')
  return Object.hasOwn(digests, plain) ? digests[plain] : undefined
}

/** Reads a manifest.
 *  @param path for messages
 *  @throws MoraineError `invalid` for a line that is none; `limit`. */
export function readManifest(bytes: Uint8Array, name: string, path: string): Manifest {
  if (bytes.length > mostBytes)
    throw new MoraineError('limit', 'the manifest is too large', {
      path,
      field: 'size',
      value: bytes.length,
      rule: `at most ${mostBytes}`,
    })
  const lines = new TextDecoder().decode(bytes).split('\n')
  if (lines.length > mostLines)
    throw new MoraineError('limit', 'the manifest has too many lines', {
      path,
      field: 'lines',
      value: lines.length,
      rule: `at most ${mostLines}`,
    })
  const entries: ManifestEntry[] = []
  for (const [index, full] of lines.entries()) {
    const text = full.replace(/\r$/, '')
    if (text.trim() === '' || text.trimStart().startsWith('#')) continue
    entries.push(readLine(text, index + 1, path, full !== text))
  }
  return { name, bytes, entries }
}

function readLine(text: string, line: number, path: string, carriage: boolean): ManifestEntry {
  const [, before = '', word = '', gap, file, between, hex = ''] =
    /^(\s*)([A-Za-z][\w-]*)(\s*)\((.*)\)(\s*=\s*)([0-9a-fA-F]*)\s*$/.exec(text) ?? []
  if (file === undefined) return readPlainLine(text, line, path)
  const digest = digestNamed(word)
  if (digest === undefined) throw refuse(path, line, word, 'SHA1, SHA256, SHA384 or SHA512')
  if (hex.length !== digits[digest]) throw refuse(path, line, hex, `${digits[digest]} hexadecimal digits`)
  const strict =
    before === '' &&
    gap === '' &&
    between === '= ' &&
    !carriage &&
    /^SHA(?:1|256|384|512)$/.test(word) &&
    !/[A-F]/.test(hex)
  return { file: file.trim(), digest, hex: hex.toLowerCase(), line, strict }
}

/** As sha256sum writes it. */
function readPlainLine(text: string, line: number, path: string): ManifestEntry {
  const [, hex = '', file] = /^\s*([0-9a-fA-F]{40,128})\s+\*?(\S.*?)\s*$/.exec(text) ?? []
  const digest = byDigits.get(hex.length)
  if (file === undefined || digest === undefined) throw refuse(path, line, text, 'SHA256(name)= digest')
  return { file, digest, hex: hex.toLowerCase(), line, strict: false }
}

/** The text of a manifest in the standard's own spelling, with `\n` behind each line. */
export function writeManifest(entries: readonly Pick<ManifestEntry, 'file' | 'digest' | 'hex'>[]): string {
  return entries.map(({ file, digest, hex }) => `${digest.toUpperCase()}(${file})= ${hex}\n`).join('')
}

/** Reads a signature file.
 *  @throws MoraineError `invalid`. */
export function readSignature(bytes: Uint8Array, name: string, path: string): ManifestSignature {
  const text = new TextDecoder().decode(bytes.subarray(0, mostBytes))
  const [, word = '', manifest, hex = ''] = /^\s*([A-Za-z][\w-]*)\s*\((.*)\)\s*=\s*([0-9a-fA-F]+)\s*$/m.exec(text) ?? []
  const digest = digestNamed(word)
  if (manifest === undefined || digest === undefined || hex.length % 2 !== 0 || hex.length > 8192) {
    throw new MoraineError('invalid', 'the certificate file has no signature', {
      path,
      field: 'signature',
      rule: 'SHA256(name.mf)= signature',
    })
  }
  const signature = Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
  return {
    name,
    manifest: manifest.trim(),
    digest,
    signature,
    pem: text.slice(Math.max(0, text.indexOf('-----BEGIN'))),
  }
}

/** The text of a signature file. */
export function writeSignature(manifest: string, digest: DigestName, signature: Uint8Array, pem: string): string {
  const hex = Array.from(signature, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${digest.toUpperCase()}(${manifest})= ${hex}\n${pem.trim()}\n`
}
