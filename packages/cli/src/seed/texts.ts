/** Reads the files that a seed is made of: cloud-config, meta-data, network-config. Facts: cloud-init's documentation, "User-data formats" and "NoCloud". */
import type { Document } from 'yaml'
import { Failure } from '../failure.ts'
import type { GivenFile } from './kinds.ts'

/** A mapping, as YAML and JSON have it. */
export type Mapping = Record<string, unknown>

/** The text of a file.
 *  @throws Failure where it is not UTF-8. */
export function textOf({ name, bytes }: GivenFile): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Failure(`'${name}' is no text in UTF-8`)
  }
}

/** The YAML of a file, with its comments.
 *  @throws Failure where it is none, with the line. */
export async function readYaml(file: GivenFile): Promise<Document> {
  const { parseDocument } = await import('yaml')
  const document = parseDocument(textOf(file), { prettyErrors: true })
  const [error] = document.errors
  if (error !== undefined) throw new Failure(`'${file.name}' is no YAML: ${error.message.split('\n')[0]}`)
  return document
}

/** The mapping in a file of YAML or JSON; an empty file is an empty mapping.
 *  @throws Failure */
export async function readMapping(file: GivenFile): Promise<Mapping> {
  const document = await readYaml(file)
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    // Aliases that grow without end.
    throw new Failure(`'${file.name}' cannot be read: ${(error as Error).message}`)
  }
  if (value === null || value === undefined) return {}
  if (typeof value === 'object' && !Array.isArray(value)) return value as Mapping
  throw new Failure(`'${file.name}' is no mapping of names to values`)
}

/** How user-data and vendor-data begin, by what cloud-init takes them for. */
const beginnings: readonly (readonly [beginning: RegExp, kind: string])[] = [
  [/^#cloud-config(\s|$)/, 'cloud-config'],
  [/^#!/, 'script'],
  [/^#include(-once)?\s/, 'include'],
  [/^#cloud-boothook/, 'boothook'],
  [/^#upstart-job/, 'upstart'],
  [/^#part-handler/, 'part handler'],
  [/^#cloud-config-(archive|jsonp)/, 'archive'],
  [/^## template:/, 'template'],
  [/^(Content-Type|MIME-Version|From |Date|Subject|To):? /im, 'MIME'],
]

/** What cloud-init takes user-data for.
 *  @throws Failure for what it would not use, and for a cloud-config that is no YAML. */
export async function userDataKind(file: GivenFile): Promise<string> {
  const { bytes, name } = file
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return 'gzip'
  const text = textOf(file)
  if (text.trim() === '') return 'empty'
  const kind = beginnings.find(([beginning]) => beginning.test(text))?.[1]
  if (kind === undefined) {
    throw new Failure(`'${name}' begins as nothing that cloud-init knows`, {
      hint: 'Its first line must be #cloud-config, #! with a program, #include, a MIME header, or another that the documentation of cloud-init names.',
    })
  }
  if (kind === 'cloud-config') await readMapping(file)
  return kind
}

/** The network configuration of NoCloud, checked as far as its shape goes.
 *  @throws Failure */
export async function checkNetworkConfig(file: GivenFile): Promise<void> {
  const whole = await readMapping(file)
  const network = 'network' in whole ? whole.network : whole
  const { version } = (network ?? {}) as Mapping
  if (version === 1 || version === 2 || (network as Mapping | undefined)?.config === 'disabled') return
  throw new Failure(`'${file.name}' is no network configuration: version is ${String(version)}, not 1 or 2`)
}

/** The network data of a config drive.
 *  @throws Failure */
export async function readNetworkData(file: GivenFile): Promise<Mapping> {
  const data = await readMapping(file)
  if (Array.isArray(data.links) && Array.isArray(data.networks)) return data
  throw new Failure(`'${file.name}' is no network data of OpenStack, which has lists 'links' and 'networks'`, {
    hint: 'A configuration of versions 1 or 2 (netplan) goes onto a NoCloud seed.',
  })
}

const keyLine = /(^|\s)(ssh-(rsa|dss|ed25519)|ecdsa-sha2-\S+|sk-(ssh|ecdsa)-\S+)\s+[A-Za-z0-9+/]+=*(\s|$)/

/** The public keys in a file, as in authorized_keys.
 *  @throws Failure where there are none, and for private ones. */
export function readPublicKeys(file: GivenFile): string[] {
  const text = textOf(file)
  if (/PRIVATE KEY/.test(text)) {
    throw new Failure(
      `'${file.name}' is a private key, which must not leave this machine; the public one is in the file that ends in .pub`,
    )
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim())
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'))
  const wrong = keys.find((line) => !keyLine.test(line))
  if (wrong !== undefined) throw new Failure(`'${file.name}' has a line that is no public key: '${wrong.slice(0, 60)}'`)
  if (keys.length === 0) throw new Failure(`'${file.name}' has no public key`)
  return keys
}
