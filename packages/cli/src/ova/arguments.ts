/** Arguments that several verbs below `ova` take. */
import { readFileSync } from 'node:fs'
import { type NewNic, type NewProperty, propertyTypes } from '@moraine/engine'
import { codeOf, strerror } from '@moraine/engine/node'
import { Failure } from '../failure.ts'
import { readInteger, readSize } from '../numbers.ts'
import type { OptionSpec } from '../verb.ts'

const MiB = 1024 * 1024

/** `--cpus`.
 *  @throws Failure */
export function readCpus(text: string): number {
  const value = readInteger(text)
  if (value !== undefined && value >= 1 && value <= 1024) return value
  throw new Failure(`Invalid number of processors '${text}': 1 to 1024 are possible`)
}

/** `--memory`: bytes.
 *  @throws Failure */
export function readMemory(text: string, warn: (message: string) => void): number {
  const size = readSize('memory', text, warn)
  if (size >= BigInt(MiB) && size % BigInt(MiB) === 0n && size <= BigInt(64 * 1024 ** 4)) return Number(size)
  throw new Failure(`Invalid memory '${text}': whole MiB are possible, as 4G or 512M`)
}

/** `--nic`: NETWORK[,model=MODEL].
 *  @throws Failure */
export function readNic(text: string): NewNic {
  const [, network = '', model] = /^(.*?)(?:,model=([\w.-]+))?$/.exec(text) ?? []
  if (network === '') throw new Failure(`Invalid network adapter '${text}': NETWORK[,model=MODEL] is expected`)
  return { network, model }
}

/** `--firmware`.
 *  @throws Failure */
export function readFirmware(text: string): 'bios' | 'efi' {
  if (text === 'bios' || text === 'efi') return text
  throw new Failure('--firmware must be used with bios or efi')
}

/** `--property`: KEY[:TYPE][=VALUE].
 *  @throws Failure */
function readProperty(text: string): NewProperty {
  const [, key = '', type, value] = /^([^:=]*)(?::([^=]*))?(?:=([\s\S]*))?$/.exec(text) ?? []
  if (key === '') throw new Failure(`Invalid property '${text}': KEY[:TYPE][=VALUE] is expected`)
  if (type === undefined || (propertyTypes as readonly string[]).includes(type)) return { key, type, value }
  throw new Failure(`Unknown type '${type}' of the property '${key}': known are ${propertyTypes.join(', ')}`)
}

const mostLicence = MiB

/** `--eula`: the text in a file.
 *  @throws Failure */
function readEula(path: string): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new Failure(`Could not read '${path}': ${strerror(codeOf(error))}`)
  }
  if (bytes.length > mostLicence) throw new Failure(`'${path}' is too large for a licence: at most 1 MiB`)
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes).trim()
    if (text !== '') return text
  } catch {
    throw new Failure(`'${path}' is no text in UTF-8`)
  }
  throw new Failure(`'${path}' is empty`)
}

/** What a machine says of the software in it. */
export const softwareOptions = {
  product: { long: 'product', argument: 'NAME', help: 'What is installed in the machine.' },
  vendor: { long: 'vendor', argument: 'NAME', help: 'Who makes it.' },
  version: { long: 'version', argument: 'TEXT', help: 'Its version.' },
  property: {
    long: 'property',
    argument: 'KEY[:TYPE][=VALUE]',
    collect: true,
    help: `A value that whoever deploys the machine may set, with its value until then; may be given several times. Types: ${propertyTypes.join(', ')}.`,
    parse: readProperty,
  },
  annotation: { long: 'annotation', argument: 'TEXT', help: 'A note about the machine.' },
} as const satisfies Record<string, OptionSpec>

/** `--eula`. */
export const eulaOption = {
  long: 'eula',
  argument: 'FILE',
  parse: readEula,
} as const
