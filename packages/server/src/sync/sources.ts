/** Which catalogues of cloud images the service keeps in step with: the operator's file, read and checked once. */
import { readFileSync } from 'node:fs'
import { type Definition, findCatalogue } from '@moraine/cloud-images'
import { MoraineError } from '@moraine/engine'
import { parse as parseYaml } from 'yaml'
import type { Visibility } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import type { Config } from '../config.ts'

/** One catalogue, and what is kept of it. It stands in the input of tasks as it is. */
export interface Source {
  readonly name: string
  readonly distribution: string
  readonly stream?: string
  /** URL; empty: the publisher's. */
  readonly mirror?: string
  /** File of the keys; absent: those that are shipped. */
  readonly keyring?: string
  readonly unsigned: boolean
  readonly allowOlder: boolean
  readonly releases: readonly string[]
  readonly architectures: readonly string[]
  /** Absent: the usual disk. */
  readonly kind?: string
  /** Builds of each release, processor and kind that are kept, the newest ones. */
  readonly keep: number
  /** What happens to those that are kept and not the newest. */
  readonly superseded: 'hide' | 'show'
  /** What happens to those that are not kept. */
  readonly expired: 'delete' | 'hide'
  readonly visibility: Visibility
  readonly owner: string | null
  /** Empty: the default store. */
  readonly stores: readonly string[]
  readonly properties: Readonly<Record<string, string>>
  readonly hours: number
}

type Settings = Pick<Config, 'catalogueFile' | 'catalogueHours'>

/** Reads the file that the settings name.
 *  @throws MoraineError `missing` or `invalid`, with the place in the file */
export function readSources({ catalogueFile, catalogueHours }: Settings): Source[] {
  if (catalogueFile === '') return []
  let document: unknown
  try {
    document = parseYaml(readFileSync(catalogueFile, 'utf8'), { maxAliasCount: 0 }) ?? []
  } catch (error) {
    const kind = (error as NodeJS.ErrnoException).code === undefined ? 'invalid' : 'missing'
    throw new MoraineError(kind, `catalogueFile: cannot read ${catalogueFile}: ${(error as Error).message}`)
  }
  if (!Array.isArray(document)) throw wrong(catalogueFile, 'this is no list of catalogues')
  const sources = document.map((entry, at) =>
    readSource(entry, `${catalogueFile}: catalogue ${at + 1}`, catalogueHours),
  )
  const names = sources.map(({ name }) => name)
  const twice = names.find((name, at) => names.indexOf(name) !== at)
  if (twice !== undefined) throw wrong(catalogueFile, `two catalogues have the name ${twice}`)
  return sources
}

/** What a task that looks at a catalogue is told: all of it, as the process that runs it may have other settings. */
export function syncInput(source: Source, dryRun: boolean): JsonObject {
  return { catalogue: source.name, dry_run: dryRun, source: JSON.parse(JSON.stringify(source)) as JsonObject }
}

function wrong(where: string, what: string): MoraineError {
  return new MoraineError('invalid', `${where}: ${what}`, { field: 'catalogueFile' })
}

const known = [
  ...['name', 'distribution', 'stream', 'mirror', 'keyring', 'unsigned', 'allowOlder', 'releases', 'architectures'],
  ...['kind', 'keep', 'superseded', 'expired', 'visibility', 'owner', 'stores', 'properties', 'hours'],
]

/** @throws MoraineError `invalid` */
function readSource(entry: unknown, where: string, hours: number): Source {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) throw wrong(where, 'this is no map')
  const given = entry as JsonObject
  const unknown = Object.keys(given).find((name) => !known.includes(name))
  if (unknown !== undefined) throw wrong(where, `there is no ${unknown}; there are ${known.join(', ')}`)
  const read = new Entry(given, where)
  const distribution = read.text('distribution') ?? read.needed('distribution')
  const definition = definitionOf(distribution, where)
  const stream = read.text('stream')
  if (stream !== undefined && !Object.hasOwn(definition.streams, stream)) {
    throw wrong(
      where,
      `${distribution} has no stream ${stream}; there are ${Object.keys(definition.streams).join(', ')}`,
    )
  }
  const kind = read.text('kind')
  if (kind !== undefined && !Object.hasOwn(definition.disks, kind)) {
    throw wrong(where, `kind ${kind} is no disk; there are ${Object.keys(definition.disks).join(', ')}`)
  }
  const mirror = read.text('mirror')
  if (mirror !== undefined && !/^https?:$/.test(URL.parse(mirror)?.protocol ?? '')) {
    throw wrong(where, `mirror ${mirror} is no URL of http or https`)
  }
  const keyring = read.text('keyring')
  const unsigned = read.flag('unsigned')
  if (unsigned && keyring !== undefined) throw wrong(where, 'unsigned contradicts keyring')
  return {
    name: read.text('name') ?? distribution,
    distribution,
    ...(stream === undefined ? {} : { stream }),
    ...(mirror === undefined ? {} : { mirror }),
    ...(keyring === undefined ? {} : { keyring }),
    ...(kind === undefined ? {} : { kind }),
    unsigned,
    allowOlder: read.flag('allowOlder'),
    releases: read.texts('releases', ['latest']),
    architectures: read.texts('architectures', ['amd64']),
    keep: read.number('keep', 1, 1, 100),
    superseded: read.choice('superseded', ['hide', 'show']),
    expired: read.choice('expired', ['delete', 'hide']),
    visibility: read.choice('visibility', ['public', 'community', 'shared', 'private']),
    owner: read.text('owner') ?? null,
    stores: read.texts('stores', []),
    properties: read.properties(),
    hours: read.number('hours', hours, 0, 24 * 365),
  }
}

function definitionOf(name: string, where: string): Definition {
  try {
    return findCatalogue(name)
  } catch (error) {
    const { reason, hint = '' } = error as MoraineError
    throw wrong(where, `${reason}. ${hint}`)
  }
}

/** Reads what one catalogue says, with its type checked. */
class Entry {
  readonly #given: JsonObject
  readonly #where: string

  constructor(given: JsonObject, where: string) {
    this.#given = given
    this.#where = where
  }

  /** Numbers are texts, too: 24.04 is a release. */
  text(name: string): string | undefined {
    const value = this.#given[name]
    if (value === undefined || value === null) return undefined
    if (typeof value === 'string' && value !== '') return value
    if (typeof value === 'number')
      throw wrong(this.#where, `${name} ${value} must stand in quotes, as a number loses its zeros`)
    throw wrong(this.#where, `${name} is no text`)
  }

  needed(name: string): never {
    throw wrong(this.#where, `${name} is missing`)
  }

  texts(name: string, initial: readonly string[]): readonly string[] {
    const value = this.#given[name]
    if (value === undefined || value === null) return initial
    const list = Array.isArray(value) ? value : [value]
    return list.map((one) => new Entry({ [name]: one }, this.#where).text(name) ?? this.needed(name))
  }

  flag(name: string): boolean {
    const value = this.#given[name] ?? false
    if (typeof value === 'boolean') return value
    throw wrong(this.#where, `${name} is neither true nor false`)
  }

  number(name: string, initial: number, least: number, most: number): number {
    const value = this.#given[name] ?? initial
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value
    throw wrong(this.#where, `${name} is no whole number from ${least} to ${most}`)
  }

  /** The first is the default. */
  choice<Choice extends string>(name: string, choices: readonly [Choice, ...Choice[]]): Choice {
    const value = this.#given[name] ?? choices[0]
    const found = choices.find((choice) => choice === value)
    if (found !== undefined) return found
    throw wrong(this.#where, `${name} is not one of ${choices.join(', ')}`)
  }

  properties(): Readonly<Record<string, string>> {
    const value = this.#given.properties ?? {}
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw wrong(this.#where, 'properties is no map')
    return Object.fromEntries(
      Object.entries(value).map(([name, one]) => {
        if (name.startsWith('os_glance_')) throw wrong(this.#where, `the property ${name} is the service's own`)
        if (typeof one === 'object') throw wrong(this.#where, `the property ${name} is no text`)
        return [name, String(one)]
      }),
    )
  }
}
