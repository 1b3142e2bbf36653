/** The manifest of an Amazon bundle: which parts there are, how they are encrypted, and who says so. Facts: the manifests of Amazon's AMI tools and of euca2ools, version 2007-10-10.
 *  Everything in it is a stranger's until its signature was verified. */
import {
  attributeOf,
  childOf,
  childrenOf,
  readXml,
  textOf,
  type XmlElement,
  type XmlParser,
} from '../../codec/xml/document.ts'
import { MoraineError } from '../../core/index.ts'

/** What an image is for. */
export type BundleType = 'machine' | 'kernel' | 'ramdisk'

/** One part of the encrypted archive. */
export interface BundlePart {
  /** A plain file name beside the manifest. */
  filename: string
  /** SHA-1 of the part as it is stored, hexadecimal. */
  digest: string
}

/** A key or an initialisation vector, encrypted twice: for Amazon and for the user. Hexadecimal. */
export interface SealedText {
  ec2: string
  user: string
}

/** What a manifest says. */
export interface BundleManifest {
  bundler: { name: string; version: string; release: string }
  architecture: string
  blockDevices: { virtual: string; device: string }[]
  productCodes: string[]
  kernelId: string | undefined
  ramdiskId: string | undefined
  name: string
  /** The account. */
  user: string
  type: BundleType
  /** SHA-1 of the tar archive before it is packed, hexadecimal. */
  digest: string
  /** Bytes of the image. */
  size: number
  /** Bytes of all parts. */
  bundledSize: number
  key: SealedText
  iv: SealedText
  parts: BundlePart[]
}

/** A manifest as it was read. */
export interface SignedManifest extends BundleManifest {
  /** What the signature is about, exactly as it stands in the document; undefined where it cannot be told for certain. */
  signed: Uint8Array | undefined
  /** RSA over SHA-1; undefined where there is none. */
  signature: Uint8Array | undefined
}

const version = '2007-10-10'
const mostParts = 100_000
const mostBytes = 64 * 1024 * 1024

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => escapes[character] ?? '')
}

function element(name: string, content: string, attributes = ''): string {
  return `<${name}${attributes}>${content}</${name}>`
}

function textElement(name: string, text: string, attributes = ''): string {
  return element(name, escaped(text), attributes)
}

/** Writes a manifest in one line. `sign` gives the signature of bytes. */
export function writeManifest(manifest: BundleManifest, sign: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const configuration = element(
    'machine_configuration',
    [
      textElement('architecture', manifest.architecture),
      optional(
        'block_device_mapping',
        manifest.blockDevices.map(({ virtual, device }) =>
          element('mapping', textElement('virtual', virtual) + textElement('device', device)),
        ),
      ),
      optional(
        'product_codes',
        manifest.productCodes.map((code) => textElement('product_code', code)),
      ),
      manifest.kernelId === undefined ? '' : textElement('kernel_id', manifest.kernelId),
      manifest.ramdiskId === undefined ? '' : textElement('ramdisk_id', manifest.ramdiskId),
    ].join(''),
  )
  const aes = ' algorithm="AES-128-CBC"'
  const sha1 = ' algorithm="SHA1"'
  const parts = manifest.parts.map(({ filename, digest }, index) =>
    element('part', textElement('filename', filename) + textElement('digest', digest, sha1), ` index="${index}"`),
  )
  const image = element(
    'image',
    [
      textElement('name', manifest.name),
      textElement('user', manifest.user),
      textElement('type', manifest.type),
      textElement('digest', manifest.digest, sha1),
      textElement('size', String(manifest.size)),
      textElement('bundled_size', String(manifest.bundledSize)),
      textElement('ec2_encrypted_key', manifest.key.ec2, aes),
      textElement('user_encrypted_key', manifest.key.user, aes),
      textElement('ec2_encrypted_iv', manifest.iv.ec2),
      textElement('user_encrypted_iv', manifest.iv.user),
      element('parts', parts.join(''), ` count="${parts.length}"`),
    ].join(''),
  )
  const signature = sign(new TextEncoder().encode(configuration + image))
  const { bundler } = manifest
  const all = element(
    'manifest',
    [
      textElement('version', version),
      element(
        'bundler',
        textElement('name', bundler.name) +
          textElement('version', bundler.version) +
          textElement('release', bundler.release),
      ),
      configuration,
      image,
      textElement('signature', hexOf(signature)),
    ].join(''),
  )
  return new TextEncoder().encode(`<?xml version="1.0" encoding="UTF-8"?>${all}`)
}

function optional(name: string, children: readonly string[]): string {
  return children.length === 0 ? '' : element(name, children.join(''))
}

/** Bytes as lower-case hexadecimal digits. */
export function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Hexadecimal digits as bytes; undefined where they are none. */
export function bytesOfHex(text: string): Uint8Array | undefined {
  if (!/^([0-9a-fA-F]{2})*$/.test(text)) return undefined
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

/** Reads a manifest.
 *  @param path for messages
 *  @throws MoraineError `invalid` with the field, its value and the rule; `unsupported` for another version or other algorithms; `limit`. */
export async function readManifest(bytes: Uint8Array, parser: XmlParser, path: string): Promise<SignedManifest> {
  const root = await readXml(bytes, parser, path, { bytes: mostBytes, depth: 8, elements: 4 * mostParts })
  const reader = new Reader(path)
  if (root.local !== 'manifest') throw reader.wrong('root element', root.local, 'manifest')
  const written = reader.text(root, 'version')
  if (written !== version) {
    throw new MoraineError('unsupported', 'the manifest has another version', {
      path,
      field: 'version',
      value: written,
      rule: version,
    })
  }
  const configuration = reader.child(root, 'machine_configuration')
  const image = reader.child(root, 'image')
  const parts = reader.child(image, 'parts')
  const signature = textOf(root, 'signature')
  const mapping = childOf(configuration, 'block_device_mapping')
  const codes = childOf(configuration, 'product_codes')
  const bundler = childOf(root, 'bundler')
  const type = reader.text(image, 'type', 'machine')
  if (type !== 'machine' && type !== 'kernel' && type !== 'ramdisk')
    throw reader.wrong('image/type', type, 'machine, kernel or ramdisk')
  const manifest: BundleManifest = {
    bundler: {
      name: bundler === undefined ? '' : reader.text(bundler, 'name', ''),
      version: bundler === undefined ? '' : reader.text(bundler, 'version', ''),
      release: bundler === undefined ? '' : reader.text(bundler, 'release', ''),
    },
    architecture: reader.text(configuration, 'architecture'),
    blockDevices: (mapping === undefined ? [] : childrenOf(mapping, 'mapping')).map((each) => ({
      virtual: reader.text(each, 'virtual'),
      device: reader.text(each, 'device'),
    })),
    productCodes: codes === undefined ? [] : childrenOf(codes, 'product_code').map(({ text }) => text.trim()),
    kernelId: textOf(configuration, 'kernel_id'),
    ramdiskId: textOf(configuration, 'ramdisk_id'),
    name: reader.text(image, 'name'),
    user: reader.text(image, 'user', ''),
    type,
    digest: reader.digest(image, 'image/digest'),
    size: reader.size(image, 'size'),
    bundledSize: reader.size(image, 'bundled_size'),
    key: { ec2: reader.sealed(image, 'ec2_encrypted_key'), user: reader.sealed(image, 'user_encrypted_key') },
    iv: { ec2: reader.sealed(image, 'ec2_encrypted_iv'), user: reader.sealed(image, 'user_encrypted_iv') },
    parts: reader.parts(parts),
  }
  const signed = signedText(bytes)
  const signatureBytes = signature === undefined || signature === '' ? undefined : bytesOfHex(signature)
  if (signature !== undefined && signature !== '' && signatureBytes === undefined) {
    throw reader.wrong('signature', signature.slice(0, 40), 'hexadecimal digits')
  }
  return { ...manifest, signed, signature: signatureBytes }
}

/** What is signed: the two elements as they stand, one behind the other. What is signed must be what was read, so each tag may stand there once, and nothing that hides text. */
function signedText(bytes: Uint8Array): Uint8Array | undefined {
  const text = new TextDecoder().decode(bytes)
  if (text.includes('<!') || text.lastIndexOf('<?') > 0) return undefined
  const slices = ['machine_configuration', 'image'].map((name) => {
    const starts = [...text.matchAll(new RegExp(`<${name}[\\s>/]`, 'g'))]
    const ends = [...text.matchAll(new RegExp(`</${name}\\s*>`, 'g'))]
    const [start, end] = [starts[0], ends[0]]
    if (start === undefined || end === undefined || starts.length > 1 || ends.length > 1) return undefined
    return text.slice(start.index, end.index + end[0].length)
  })
  return slices.includes(undefined) ? undefined : new TextEncoder().encode(slices.join(''))
}

class Reader {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  wrong(field: string, value: string | number | undefined, rule: string): MoraineError {
    return new MoraineError('invalid', 'the manifest of the bundle is not valid', {
      path: this.#path,
      field,
      value: value ?? 'missing',
      rule,
    })
  }

  child(parent: XmlElement, name: string): XmlElement {
    const found = childrenOf(parent, name)
    if (found.length === 1) return found[0] as XmlElement
    throw this.wrong(`elements ${name}`, found.length, 'one')
  }

  text(parent: XmlElement, name: string, otherwise?: string): string {
    const found = childrenOf(parent, name)
    if (found.length === 0 && otherwise !== undefined) return otherwise
    return this.child(parent, name).text.trim()
  }

  size(parent: XmlElement, name: string): number {
    const text = this.text(parent, name)
    const value = Number(text)
    if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value
    throw this.wrong(name, text.slice(0, 40), 'a whole number of bytes')
  }

  digest(parent: XmlElement, field: string): string {
    const digest = this.child(parent, 'digest')
    const algorithm = attributeOf(digest, 'algorithm') ?? 'SHA1'
    if (algorithm !== 'SHA1') {
      throw new MoraineError('unsupported', 'the bundle has another kind of digest', {
        path: this.#path,
        field,
        value: algorithm,
        rule: 'SHA1',
      })
    }
    const text = digest.text.trim().toLowerCase()
    if (/^[0-9a-f]{40}$/.test(text)) return text
    throw this.wrong(field, text.slice(0, 50), '40 hexadecimal digits')
  }

  /** The encrypted keys; one of the two may be missing. */
  sealed(parent: XmlElement, name: string): string {
    const found = childOf(parent, name)
    if (found === undefined) return ''
    const algorithm = attributeOf(found, 'algorithm') ?? 'AES-128-CBC'
    if (algorithm !== 'AES-128-CBC') {
      throw new MoraineError('unsupported', 'the bundle is encrypted in another way', {
        path: this.#path,
        field: name,
        value: algorithm,
        rule: 'AES-128-CBC',
      })
    }
    const text = found.text.trim()
    if (/^([0-9a-fA-F]{2})+$/.test(text) && text.length <= 4096) return text
    throw this.wrong(name, text.slice(0, 40), 'hexadecimal digits')
  }

  parts(parent: XmlElement): BundlePart[] {
    const list = childrenOf(parent, 'part')
    const count = attributeOf(parent, 'count')
    if (list.length === 0 || list.length > mostParts) throw this.wrong('parts', list.length, `1 to ${mostParts}`)
    if (count !== undefined && count !== String(list.length))
      throw this.wrong('parts/@count', count, `${list.length}, as there are parts`)
    const names = new Set<string>()
    return list.map((part, index) => {
      const written = attributeOf(part, 'index')
      if (written !== String(index)) throw this.wrong('part/@index', written, `${index}: parts in order, each once`)
      const filename = this.text(part, 'filename')
      if (!isPlainName(filename))
        throw this.wrong(`filename of part ${index}`, filename.slice(0, 100), 'a plain file name beside the manifest')
      if (names.has(filename)) throw this.wrong(`filename of part ${index}`, filename, 'each name once')
      names.add(filename)
      return { filename, digest: this.digest(part, `digest of part ${index}`) }
    })
  }
}

/** Whether a name is one of a file beside the manifest, and nothing else. */
export function isPlainName(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: such names are what is refused.
  return name !== '' && name !== '.' && name !== '..' && name.length <= 255 && !/[/\\:\u0000-\u001f\u007f]/.test(name)
}
