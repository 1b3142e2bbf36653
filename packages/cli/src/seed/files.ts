/** The files of a seed. Facts: cloud-init's documentation of NoCloud, and its reader of config drives; OpenStack's documentation of metadata. */
import { createHash } from 'node:crypto'
import { Failure } from '../failure.ts'
import type { GivenFile, SeedRequest } from './kinds.ts'
import {
  checkNetworkConfig,
  type Mapping,
  readMapping,
  readNetworkData,
  readYaml,
  textOf,
  userDataKind,
} from './texts.ts'

/** The files by their paths, in no order, and the label of the volume that cloud-init looks for. */
export interface SeedFiles {
  label: string
  files: ReadonlyMap<string, Uint8Array>
  instanceId: string
}

/** Makes the files.
 *  @throws Failure for what cloud-init would not take. */
export async function seedFiles(request: SeedRequest): Promise<SeedFiles> {
  if (request.hostname !== undefined) checkHostname(request.hostname)
  const userData = await userDataOf(request)
  if (request.vendorData !== undefined) await userDataKind(request.vendorData)
  return request.kind === 'nocloud' ? await noCloud(request, userData) : await configDrive(request, userData)
}

function checkHostname(name: string): void {
  const label = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
  if (name.length <= 253 && new RegExp(`^${label}(\\.${label})*$`).test(name)) return
  throw new Failure(`'${name}' is no name of a host`)
}

/** The user-data, with the password in it where there is one. */
async function userDataOf({ userData, passwordHash }: SeedRequest): Promise<Uint8Array> {
  const kind = userData === undefined ? 'empty' : await userDataKind(userData)
  if (passwordHash === undefined) return userData?.bytes ?? utf8('')
  const settings = { password: passwordHash, chpasswd: { expire: false } }
  if (userData === undefined || kind === 'empty') {
    const { stringify } = await import('yaml')
    return utf8(`#cloud-config\n${stringify(settings)}`)
  }
  if (kind !== 'cloud-config') {
    throw new Failure(`a password cannot be added to '${userData.name}', which is no #cloud-config (${kind})`)
  }
  const document = await readYaml(userData)
  for (const [key, value] of Object.entries(settings)) {
    if (document.has(key)) throw new Failure(`'${userData.name}' has '${key}' already, so --password cannot be added`)
    document.set(key, document.createNode(value))
  }
  const text = document.toString({ lineWidth: 0 })
  // An empty document forgets what stood before it.
  return utf8(text.startsWith('#cloud-config') ? text : `#cloud-config\n${text}`)
}

async function noCloud(request: SeedRequest, userData: Uint8Array): Promise<SeedFiles> {
  const { metaData, networkConfig, vendorData, sshKeys, hostname } = request
  const given = metaData === undefined ? {} : await readMapping(metaData)
  if (networkConfig !== undefined) await checkNetworkConfig(networkConfig)
  const files = new Map<string, Uint8Array>([['user-data', userData]])
  if (networkConfig !== undefined) files.set('network-config', networkConfig.bytes)
  if (vendorData !== undefined) files.set('vendor-data', vendorData.bytes)
  const keys = withKeys(given['public-keys'], sshKeys, metaData)
  const meta: Mapping = {
    ...given,
    ...(hostname === undefined ? {} : { 'local-hostname': hostname }),
    ...(keys === undefined ? {} : { 'public-keys': keys }),
  }
  const { 'instance-id': known, ...rest } = meta
  const instanceId = request.instanceId ?? textValue(known) ?? `iid-${digest(files, rest).slice(0, 16)}`
  const { stringify } = await import('yaml')
  files.set('meta-data', utf8(stringify({ 'instance-id': instanceId, ...rest }, { lineWidth: 0 })))
  return { label: 'cidata', files, instanceId }
}

async function configDrive(request: SeedRequest, userData: Uint8Array): Promise<SeedFiles> {
  const { metaData, networkConfig, vendorData, sshKeys, hostname } = request
  const given = metaData === undefined ? {} : await readMapping(metaData)
  const files = new Map<string, Uint8Array>()
  const put = (name: string, content: Uint8Array | Mapping): void => {
    const bytes = content instanceof Uint8Array ? content : utf8(`${JSON.stringify(content, undefined, 2)}\n`)
    files.set(`openstack/latest/${name}`, bytes)
  }
  if (userData.length > 0) put('user_data', userData)
  if (vendorData !== undefined) put('vendor_data.json', await vendorJson(vendorData))
  if (networkConfig !== undefined) put('network_data.json', await readNetworkData(networkConfig))
  const known = given.public_keys === undefined ? {} : mappingOf(given.public_keys, 'public_keys', metaData)
  const added = Object.fromEntries(sshKeys.map((key, index) => [`key-${index + 1}`, key]))
  const { uuid, ...rest } = given
  const meta: Mapping = {
    launch_index: 0,
    ...rest,
    ...(hostname === undefined ? {} : { hostname, name: hostname.split('.')[0] }),
    ...(sshKeys.length === 0 ? {} : { public_keys: { ...known, ...added } }),
  }
  const instanceId = request.instanceId ?? textValue(uuid) ?? uuidOf(digest(files, meta))
  put('meta_data.json', { uuid: instanceId, ...meta })
  return { label: 'config-2', files, instanceId }
}

/** Vendor data is JSON there: cloud-init takes its own formats under its name. */
async function vendorJson(file: GivenFile): Promise<Mapping> {
  const text = textOf(file)
  if (!/^\s*\{/.test(text)) return { 'cloud-init': text }
  return await readMapping(file)
}

function mappingOf(value: unknown, name: string, file: GivenFile | undefined): Mapping {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Mapping
  throw new Failure(`'${file?.name}' has '${name}' that is no mapping`)
}

/** The keys of the meta-data, which are a list, a mapping or one text, with those that were given. */
function withKeys(known: unknown, keys: readonly string[], file: GivenFile | undefined): unknown {
  if (known === undefined || known === null) return keys.length === 0 ? undefined : [...keys]
  if (keys.length === 0) return known
  if (typeof known === 'string') return [known, ...keys]
  if (Array.isArray(known)) return [...known, ...keys]
  throw new Failure(`'${file?.name}' has 'public-keys' that is no list, so --ssh-key cannot be added`)
}

function textValue(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value)
}

/** The same content has the same instance id, so that a seed that was made again does not set a machine up again. */
function digest(files: ReadonlyMap<string, Uint8Array>, meta: Mapping): string {
  const hash = createHash('sha256')
  for (const [name, bytes] of files) hash.update(`${name} ${bytes.length}\n`).update(bytes)
  return hash.update(JSON.stringify(meta)).digest('hex')
}

/** A UUID of version 8, of a digest. Source: RFC 9562, section 5.8. */
function uuidOf(hex: string): string {
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16)
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    variant + hex.slice(17, 20),
    hex.slice(20, 32),
  ].join('-')
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
