/** Reads the settings of the service: from the caller, the environment, a file, and the table of their defaults. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { type ErrorKind, MoraineError, parseSize } from '@moraine/engine'
import { parse as parseYaml } from 'yaml'
import { readAddresses } from './operate/addresses.ts'
import { type Setting, settings } from './settings.ts'

export { settings } from './settings.ts'

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
