/** The settings of the service, declared once: options of `serve`, environment variables, checks and the reference in the docs come from this table. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { type ErrorKind, MoraineError, parseSize } from '@moraine/engine'
import { parse as parseYaml } from 'yaml'
import { readAddresses } from './operate/addresses.ts'

interface Setting<Value> {
  /** A `secret` is a text that cannot be given on the command line, where every user of the machine could read it. */
  readonly kind: 'text' | 'secret' | 'number' | 'size' | 'flag' | 'choice'
  readonly initial: Value
  readonly help: string
  /** For `choice`. */
  readonly choices?: readonly string[]
  /** For `number` and `size`. */
  readonly least?: number
  readonly most?: number
}

const text = (initial: string, help: string): Setting<string> => ({ kind: 'text', initial, help })
const secret = (help: string): Setting<string> => ({ kind: 'secret', initial: '', help })
const flag = (initial: boolean, help: string): Setting<boolean> => ({ kind: 'flag', initial, help })
const size = (initial: number, help: string): Setting<number> => ({ kind: 'size', initial, help, least: 0 })
const number = (initial: number, help: string, least = 0, most = 2 ** 31 - 1): Setting<number> => ({
  kind: 'number',
  initial,
  help,
  least,
  most,
})

const KiB = 1024
const MiB = 1024 * KiB
const TiB = 1024 * 1024 * MiB

/** Every setting. The environment variable of `imageSizeCap` is `MORAINE_IMAGE_SIZE_CAP`, and so on. */
export const settings = {
  config: text('', 'file of settings in YAML, by these names; the command line and the environment come before it'),
  host: text('127.0.0.1', 'address to listen on'),
  port: number(9292, 'TCP port to listen on; 0 takes a free one', 0, 65535),
  data: text('', 'folder of catalog and image data; empty: moraine in $XDG_STATE_HOME, or in ~/.local/state'),
  allowRemote: flag(false, 'listen on an address other than loopback, although nobody has to say who they are'),
  auth: {
    kind: 'choice',
    initial: 'none',
    choices: ['none', 'local', 'keystone'],
    help: 'who says who is calling: nobody, accounts of this service, or a Keystone',
  } as Setting<'none' | 'local' | 'keystone'>,
  allowPlainHttp: flag(
    false,
    'with accounts, listen on an address other than loopback, although passwords pass there in clear',
  ),
  adminPassword: secret(
    'password of the account admin, when it is first made; empty: one is made up and written to the data folder',
  ),
  adminPasswordFile: text('', 'file whose first line is adminPassword'),
  tokenSeconds: number(3600, 'seconds for which a token of an account is good', 60, 30 * 24 * 3600),
  loginAttempts: number(
    10,
    'wrong passwords for one account from one address, after which it is locked there; an account or an address as a whole is after ten times as many; 0: no bound',
  ),
  loginLockSeconds: number(300, 'seconds after the last wrong password for which it stays locked', 1, 24 * 3600),
  region: text('RegionOne', 'region in which the service stands in the catalog of its accounts'),
  keystoneUrl: text('', 'URL of Keystone, as in https://keystone.example:5000/v3'),
  keystoneUser: text('', 'user as whom the service checks tokens at Keystone, or the id of an application credential'),
  keystonePassword: secret('password of keystoneUser, or the secret of the application credential'),
  keystonePasswordFile: text('', 'file whose first line is keystonePassword'),
  keystoneMethod: {
    kind: 'choice',
    initial: 'password',
    choices: ['password', 'application_credential'],
    help: 'how the service itself logs in at Keystone',
  } as Setting<'password' | 'application_credential'>,
  keystoneProject: text('service', 'project of keystoneUser'),
  keystoneUserDomain: text('Default', 'name of the domain of keystoneUser'),
  keystoneProjectDomain: text('Default', 'name of the domain of keystoneProject'),
  keystoneCa: text('', 'file of certificates (PEM) that may vouch for Keystone, instead of those that Node knows'),
  keystoneCacheSeconds: number(60, 'seconds for which an answer of Keystone about a token is believed', 0, 300),
  keystoneTimeoutSeconds: number(10, 'seconds that Keystone has to answer', 1, 300),
  logLevel: {
    kind: 'choice',
    initial: 'info',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    help: 'least severe log line that is written, to standard error, as JSON',
  } as Setting<string>,
  publicUrl: text('', 'URL under which clients reach the service, when it is not the one that they send in Host'),
  stores: text(
    '',
    'where image data lies, as in `fast=folder:/srv/fast, default; web=http`; empty: a folder in the data folder',
  ),
  importMethods: text('glance-direct,web-download,copy-image', 'ways of importing that are offered, comma-separated'),
  importSchemes: text('http,https', 'schemes of addresses that are imported from'),
  importPorts: text('80,443', 'their ports; *: any'),
  importAllowedHosts: text(
    '',
    'hosts that are imported from, as names, *.names, addresses and networks; these may be private; empty: any on the internet',
  ),
  importDeniedHosts: text('', 'hosts that are never imported from'),
  importRedirects: number(5, 'redirects that are followed'),
  importConnectSeconds: number(30, 'seconds that a connection may take', 1),
  importIdleSeconds: number(60, 'seconds without a byte after which a connection is given up', 1),
  importSeconds: number(24 * 60 * 60, 'seconds that a whole download may take', 1),
  importRetries: number(5, 'times in a row that a download is tried again without a byte in between'),
  importConvert: text('', 'format that imported images are converted to; empty: they stay as they are'),
  importDecompress: flag(false, 'unpack imported images that are gzip, xz, bzip2, zstd, LZ4 or zip'),
  importInject: text('', 'properties that imported images get, as in `origin=imported,os_type=linux`'),
  importInjectIgnoreRoles: text('admin', 'roles whose imports get none'),
  importRegions: text(
    '',
    'image services that glance-download fetches from, as in `RegionTwo=https://images.example.org`',
  ),
  taskLimit: number(4, 'tasks that run at once in one process', 1),
  taskHours: number(48, 'hours after which a task that is over is forgotten', 1),
  trustedProxies: text(
    '',
    'addresses and networks of proxies whose X-Forwarded-For, -Host and -Proto are believed, as in 10.0.0.0/8, ::1',
  ),
  tlsCertificate: text(
    '',
    'file with the certificate and its chain (PEM) for HTTPS; read again on SIGHUP, with tlsKey',
  ),
  tlsKey: text('', 'file with the key of tlsCertificate (PEM)'),
  metricsFrom: text('127.0.0.0/8, ::1', 'addresses and networks that may read /metrics'),
  auditFile: text(
    '',
    'file to which the audit log is added, a line of JSON for each change; empty: it is part of the log',
  ),
  showDirectUrl: flag(false, 'tell clients where image data lies: direct_url'),
  showLocations: flag(false, 'tell clients where all copies lie, and let them change that: locations'),
  locationQuota: number(10, 'most locations of one image'),
  secureHash: flag(true, 'compute the digests of data that was added by its address'),
  imageSizeCap: size(TiB, 'largest image data that is taken, in bytes'),
  storageQuota: size(0, 'most bytes that all image data together may take; 0: no bound but the disk'),
  projectSizeQuota: size(0, 'most bytes of image data of one project; 0: no bound'),
  projectStageQuota: size(0, 'most bytes of data of one project that waits to be imported; 0: no bound'),
  projectImageQuota: number(0, 'most images of one project; 0: no bound'),
  projectUploadQuota: number(0, 'most images of one project whose data may be on its way at once; 0: no bound'),
  keystoneLimits: flag(
    false,
    'take what each project may use from the unified limits of Keystone; keystoneUser needs a role on the whole system then',
  ),
  tagQuota: number(128, 'most tags of one image'),
  propertyQuota: number(128, 'most additional properties of one image'),
  memberQuota: number(128, 'most projects that one image is shared with'),
  policyFile: text(
    '',
    "file with rules of who may do what, in YAML as Glance's policy.yaml; they take the place of those built in",
  ),
  exportCacheSize: size(
    0,
    'bytes of disk that converted images may take, so that they are made once; 0: each export is made anew',
  ),
  imageCacheSize: size(
    0,
    'bytes of disk for copies of images that lie elsewhere, or that an operator asks for; 0: no such cache',
  ),
  propertyProtectionFile: text(
    '',
    "file that says who may create, read, update and delete which additional properties, as Glance's; empty: everybody all",
  ),
  propertyProtectionFormat: {
    kind: 'choice',
    initial: 'roles',
    choices: ['roles', 'policies'],
    help: 'what propertyProtectionFile names: roles, or rules of the policy',
  } as Setting<'roles' | 'policies'>,
  diskFormats: text(
    'ami, ari, aki, vhd, vhdx, vmdk, raw, qcow2, vdi, iso, ploop',
    'values that disk_format may have; gpt can be added',
  ),
  containerFormats: text('ami, ari, aki, bare, ovf, ova, docker, compressed', 'values that container_format may have'),
  requireFormatAgreement: flag(
    true,
    'ami, ari and aki must be both disk_format and container_format of an image, or neither',
  ),
  listLimit: number(25, 'images on a page when the client names no limit', 1),
  listLimitMax: number(1000, 'most images on a page', 1),
  requireFormatMatch: flag(true, 'refuse image data that is not what disk_format says'),
  drainBytes: size(64 * MiB, 'bytes of a refused upload that are still read, so that the client sees the answer'),
  resumeHours: number(48, 'hours after which an upload that may go on later and does not is given up', 1, 24 * 365),
  storeSeconds: number(
    120,
    'seconds that a store may take for one step, as a write or a flush; then the request fails',
    1,
  ),
  downloadIdleSeconds: number(
    600,
    'seconds in which a client takes no byte of a download, after which it is cut off',
    1,
  ),
  uploadIdleSeconds: number(600, 'seconds without a byte after which an upload is given up', 1),
  requestSeconds: number(60, 'seconds that a request may take to arrive, image data aside', 1),
  shutdownSeconds: number(10, 'seconds that running requests get to finish when the service stops'),
} as const

/** The settings in force. */
export type Config = { -readonly [Name in keyof typeof settings]: (typeof settings)[Name]['initial'] }

/** Settings as a caller gives them; what is absent comes from the environment, then from the table. */
export type ConfigInput = { [Name in keyof Config]?: Config[Name] | undefined }

/** A setting that cannot be used; the text says which, and why. */
function unusable(setting: string, reason: string, kind: ErrorKind = 'invalid'): MoraineError {
  return new MoraineError(kind, reason, { field: setting })
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `MORAINE_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}

/** A setting with its value and where that comes from. */
export interface SettingInForce {
  name: keyof Config
  value: string | number | boolean
  from: 'caller' | 'environment' | 'file' | 'default'
}

/** All settings as the caller, the environment and the file of settings say, each checked by itself. @throws MoraineError `invalid` or `missing`. */
export function settingsInForce(
  input: ConfigInput,
  environment: Readonly<Record<string, string | undefined>>,
): SettingInForce[] {
  const path = input.config ?? environment[variableOf('config')] ?? ''
  const file = readConfigFile(path)
  return Object.entries<Setting<string | number | boolean>>(settings).map(([key, setting]) => {
    const name = key as keyof Config
    const given = input[name]
    const written = environment[variableOf(name)]
    const filed = file[name]
    if (given !== undefined) return { name, from: 'caller', value: check(name, setting, given) }
    if (written !== undefined && written !== '') {
      return { name, from: 'environment', value: check(name, setting, parse(variableOf(name), name, setting, written)) }
    }
    if (filed === undefined || filed === null) return { name, from: 'default', value: setting.initial }
    const where = `${path}: ${name}`
    const value = typeof filed === 'string' && setting.kind !== 'flag' ? parse(where, name, setting, filed) : filed
    return { name, from: 'file', value: check(name, setting, value as string | number | boolean) }
  })
}

/** The settings in a file, by name. */
function readConfigFile(path: string): Readonly<Record<string, unknown>> {
  if (path === '') return {}
  let document: unknown
  try {
    document = parseYaml(readFileSync(path, 'utf8'), { maxAliasCount: 0 }) ?? {}
  } catch (error) {
    const kind = (error as NodeJS.ErrnoException).code === undefined ? 'invalid' : 'missing'
    throw unusable('config', `config: cannot read ${path}: ${(error as Error).message}`, kind)
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw unusable('config', `config: ${path} is no map of settings by name`)
  }
  const unknown = Object.keys(document).find((name) => !Object.hasOwn(settings, name) || name === 'config')
  if (unknown !== undefined) throw unusable('config', `config: ${path}: there is no setting ${unknown}`)
  return document as Record<string, unknown>
}

/** The rules for a file of settings, as a JSON schema. */
export function settingsSchema(): object {
  const types = { text: 'string', secret: 'string', choice: 'string', flag: 'boolean', number: 'integer', size: '' }
  const properties = Object.entries<Setting<unknown>>(settings)
    .filter(([name]) => name !== 'config')
    .map(([name, { kind, initial, help, choices, least, most }]) => [
      name,
      {
        // A size takes suffixes, as in 10G.
        type: kind === 'size' ? ['integer', 'string'] : types[kind],
        ...(kind === 'size' ? { pattern: '^[0-9]+(\\.[0-9]+)?[bkKMGTPE]?$' } : {}),
        ...(choices === undefined ? {} : { enum: choices }),
        ...(least === undefined ? {} : { minimum: least }),
        ...(most === undefined ? {} : { maximum: most }),
        default: initial,
        description: help,
      },
    ])
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Settings of moraine serve',
    type: 'object',
    properties: Object.fromEntries(properties),
    additionalProperties: false,
  }
}

/** Puts together what the caller, the environment and the table say, and checks it.
 *  @throws MoraineError `invalid` for a value outside its kind, `denied` for an address other than loopback without `allowRemote`. */
export function readConfig(input: ConfigInput, environment: Readonly<Record<string, string | undefined>>): Config {
  const values = Object.fromEntries(settingsInForce(input, environment).map(({ name, value }) => [name, value]))
  const config = values as unknown as Config
  config.data = resolve(config.data === '' ? defaultDataFolder(environment) : config.data)
  if (config.publicUrl !== '' && !/^https?:$/.test(URL.parse(config.publicUrl)?.protocol ?? '')) {
    throw unusable('publicUrl', `publicUrl: '${config.publicUrl}' is no URL of http or https`)
  }
  checkAddress(config)
  for (const name of ['trustedProxies', 'metricsFrom'] as const) readAddresses(name, config[name])
  if (config.auth === 'local') readSecretFile(config, 'adminPassword', 'adminPasswordFile')
  if (config.auth === 'keystone') checkKeystone(config)
  return config
}

/** Whether the service may listen where it is told to. */
function checkAddress({ auth, host, allowRemote, allowPlainHttp, tlsCertificate }: Config): void {
  if (isLoopback(host) || auth === 'keystone') return
  const refusing = (reason: string, option: string, variable: string, setting: string) =>
    unusable(
      'host',
      `refusing to listen on ${host}: ${reason}, so the service listens on loopback only (127.0.0.1, ::1, localhost); ` +
        `where the network itself is trusted, allow it: --${option}, or ${variable}=on in the environment, or ${setting}`,
      'denied',
    )
  if (auth === 'none' && !allowRemote) {
    throw refusing('nobody has to say who they are', 'insecure-bind', 'MORAINE_ALLOW_REMOTE', 'allowRemote')
  }
  if (auth === 'local' && !allowPlainHttp && tlsCertificate === '') {
    const reason = 'passwords and tokens would pass there in clear'
    throw refusing(reason, 'allow-plain-http', 'MORAINE_ALLOW_PLAIN_HTTP', 'allowPlainHttp')
  }
}

function checkKeystone(config: Config): void {
  const { keystoneUrl, keystoneCa } = config
  if (!/^https?:$/.test(URL.parse(keystoneUrl)?.protocol ?? '')) {
    throw unusable('keystoneUrl', `keystoneUrl: '${keystoneUrl}' is no URL of http or https, and auth is keystone`)
  }
  if (config.keystoneUser === '') throw unusable('keystoneUser', 'keystoneUser: missing, and auth is keystone')
  readSecretFile(config, 'keystonePassword', 'keystonePasswordFile')
  if (config.keystonePassword === '') {
    throw unusable('keystonePassword', 'keystonePassword: missing, and auth is keystone')
  }
  if (keystoneCa !== '') readText('keystoneCa', keystoneCa)
}

/** Takes a secret from the file that a setting names. */
function readSecretFile(
  config: Config,
  secretName: 'adminPassword' | 'keystonePassword',
  fileName: 'adminPasswordFile' | 'keystonePasswordFile',
): void {
  const path = config[fileName]
  if (path === '') return
  const [line = ''] = readText(fileName, path).split(/\r?\n/)
  if (line === '') throw unusable(fileName, `${fileName}: the first line of ${path} is empty`)
  config[secretName] = line
}

function readText(setting: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw unusable(setting, `${setting}: cannot read ${path}: ${(error as Error).message}`)
  }
}

function defaultDataFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const state = environment.XDG_STATE_HOME
  return join(state === undefined || state === '' ? join(homedir(), '.local', 'state') : state, 'moraine')
}

/** Whether an address is reached from this machine only. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  return bare === 'localhost' || bare === '::1' || /^(::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(bare)
}

function parse(where: string, name: string, setting: Setting<unknown>, written: string): string | number | boolean {
  switch (setting.kind) {
    case 'text':
    case 'secret':
    case 'choice':
      return written
    case 'flag':
      if (/^(1|true|yes|on)$/i.test(written)) return true
      if (/^(0|false|no|off)$/i.test(written)) return false
      throw unusable(name, `${where}: '${written}' is neither true nor false`)
    case 'number':
    case 'size': {
      const parsed = setting.kind === 'size' ? parseSize(written) : /^\d+$/.test(written) ? BigInt(written) : undefined
      if (parsed === undefined || parsed > BigInt(Number.MAX_SAFE_INTEGER)) {
        throw unusable(name, `${where}: '${written}' is not a ${setting.kind}`)
      }
      return Number(parsed)
    }
  }
}

function check(name: string, setting: Setting<unknown>, value: string | number | boolean): string | number | boolean {
  if (typeof value !== typeof setting.initial) {
    throw unusable(name, `${name}: ${JSON.stringify(value)} is not a ${setting.kind}`)
  }
  if (setting.choices !== undefined && !setting.choices.includes(String(value))) {
    throw unusable(name, `${name}: '${value}' is not one of ${setting.choices.join(', ')}`)
  }
  if (typeof value !== 'number') return value
  const least = setting.least ?? 0
  const most = setting.most ?? Number.MAX_SAFE_INTEGER
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    throw unusable(name, `${name}: ${value} is not a whole number from ${least} to ${most}`)
  }
  return value
}
