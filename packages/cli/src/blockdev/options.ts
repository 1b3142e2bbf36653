/** Options of block nodes: a flat list of dotted names, as QEMU keeps them, made from `--image-opts` strings and `json:` names.
 *  Words and order of checks: measured against qemu-img 7.2. */
import { MoraineError, scanSize, sizeComplaint } from '@moraine/engine'
import type { Warn } from '../numbers.ts'
import { qemuOrder, quote } from '../output/json.ts'

/** One value. What stands in `--image-opts` is always a text. */
export type OptionScalar = string | number | boolean | null

const switchedOn = new Set(['on', 'yes', 'true', 'y'])
const switchedOff = new Set(['off', 'no', 'false', 'n'])

/** A value that JSON has types for, as the text that it stands for among QEMU's options. */
function textOf(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)
}

/** Options that are taken out one by one; what is left over at the end is unknown to its driver. */
export class NodeOptions {
  readonly #values: Map<string, OptionScalar>

  constructor(values: Iterable<readonly [string, OptionScalar]> = []) {
    this.#values = new Map(values)
  }

  /** Whether there is an option of this name, or one below it. */
  has(name: string): boolean {
    return this.#values.has(name) || this.hasBelow(name)
  }

  /** Whether there are options whose names begin with this one and a dot. */
  hasBelow(name: string): boolean {
    return this.names().some((key) => key.startsWith(`${name}.`))
  }

  names(): string[] {
    return [...this.#values.keys()]
  }

  set(name: string, value: OptionScalar): void {
    this.#values.set(name, value)
  }

  /** The value as it stands, without taking it. */
  peek(name: string): OptionScalar | undefined {
    return this.#values.get(name)
  }

  /** The value as it stands. */
  take(name: string): OptionScalar | undefined {
    const value = this.#values.get(name)
    this.#values.delete(name)
    return value
  }

  /** A text; undefined where it is absent or null. */
  takeText(name: string): string | undefined {
    const value = this.take(name)
    return value === undefined || value === null ? undefined : textOf(value)
  }

  /** Bytes.
   *  @throws MoraineError `invalid` */
  takeSize(name: string): number | undefined {
    const value = this.take(name)
    if (value === undefined) return undefined
    const size = scanSize(String(value))
    if (typeof size === 'bigint' && typeof value !== 'boolean') return Number(size)
    throw new MoraineError('invalid', sizeComplaint(name, String(value), typeof size === 'bigint' ? 'invalid' : size), {
      field: name,
    })
  }

  /** A switch.
   *  @throws MoraineError `invalid` */
  takeSwitch(name: string): boolean | undefined {
    const value = this.take(name)
    if (value === undefined || typeof value === 'boolean') return value
    if (switchedOn.has(String(value))) return true
    if (switchedOff.has(String(value))) return false
    throw new MoraineError('invalid', `Parameter '${name}' expects 'on' or 'off'`, {
      field: name,
      value: String(value),
    })
  }

  /** One of several words.
   *  @throws MoraineError `invalid` */
  takeWord(name: string, words: readonly string[], complaint?: string): string | undefined {
    const value = this.takeText(name)
    if (value === undefined || words.includes(value)) return value
    throw new MoraineError('invalid', complaint ?? `invalid parameter value: ${value}`, { field: name, value })
  }

  /** All options, with a name before theirs. */
  below(name: string): [string, OptionScalar][] {
    return [...this.#values].map(([key, value]) => [`${name}.${key}`, value])
  }

  /** Takes all options below a name, which then lose it. */
  takeBelow(name: string): NodeOptions {
    const below = new NodeOptions()
    for (const key of this.names()) {
      if (!key.startsWith(`${name}.`)) continue
      below.set(key.slice(name.length + 1), this.#values.get(key) ?? null)
      this.#values.delete(key)
    }
    return below
  }

  /** What of this makes the node what it is, for its name. */
  pick(names: readonly string[]): NameParts {
    const parts: NameParts = {}
    for (const [key, value] of this.#values) {
      if (names.some((name) => (name.endsWith('.') ? key.startsWith(name) : key === name))) parts[key] = value
    }
    return parts
  }
}

/** What a node's `json:` name is made of. */
export interface NameParts {
  [key: string]: OptionScalar | NameParts
}

/** A name for a node that no plain name can describe. */
export function jsonName(parts: NameParts): string {
  return `json:${oneLine(parts)}`
}

function oneLine(value: OptionScalar | NameParts): string {
  if (value === null || typeof value !== 'object') return typeof value === 'string' ? quote(value) : String(value)
  return `{${qemuOrder(Object.entries(value))
    .map(([key, item]) => `${quote(key)}: ${oneLine(item)}`)
    .join(', ')}}`
}

/** Reads `driver=qcow2,file.filename=x`: `,,` is a comma in a value, the first value may stand without a name and is then that of `file`. */
export function readImageOptions(text: string, warn: Warn): NodeOptions {
  const options = new NodeOptions()
  const fields = splitFields(text)
  for (const [at, field] of fields.entries()) {
    const equals = field.name
    if (equals !== undefined) options.set(equals, field.value)
    else if (at === 0 && text !== '') options.set('file', field.value)
    else if (field.value !== '') {
      const isOff = field.value.startsWith('no')
      const name = isOff ? field.value.slice(2) : field.value
      const value = isOff ? 'off' : 'on'
      options.set(name, value)
      warn(`short-form boolean option '${field.value}' deprecated\nPlease use ${name}=${value} instead`)
    }
  }
  return options
}

/** One of several fields with commas between. */
export interface Field {
  name: string | undefined
  value: string
}

/** Parts `a=b,c,,d`; `,,` is a comma in a value. */
export function splitFields(text: string): Field[] {
  const fields: Field[] = []
  let at = 0
  do {
    const stop = text.slice(at).search(/[=,]/)
    const named = stop >= 0 && text[at + stop] === '='
    const name = named ? text.slice(at, at + stop) : undefined
    if (named) at += stop + 1
    let value = ''
    while (at < text.length && (text[at] !== ',' || text[at + 1] === ',')) {
      value += text[at]
      at += text[at] === ',' ? 2 : 1
    }
    fields.push({ name, value })
    at++
  } while (at < text.length)
  return fields
}
