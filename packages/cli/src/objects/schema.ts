/** What properties an object has, as QEMU's schema (`qapi/qom.json`) declares it, and the reading of those that were given. Words are qemu-img 7.2's. */
import { scanSize } from '@moraine/engine'
import { Failure } from '../failure.ts'
import { readInteger } from '../numbers.ts'
import type { Json } from '../qemu-json.ts'
import { readSwitch } from '../switch.ts'

/** What a property may be. */
export type Shape =
  | { readonly type: 'string' | 'size' }
  /** One that is `readOnly` stands in the schema, and no class lets it be set. */
  | { readonly type: 'bool'; readonly readOnly?: true }
  | { readonly type: 'integer'; readonly name: string; readonly least: number; readonly most: number }
  | { readonly type: 'enum'; readonly name: string; readonly words: readonly string[] }
  | { readonly type: 'list'; readonly of: Shape }
  | { readonly type: 'struct'; readonly name: string; readonly members: Members }

/** Properties by name, in the order in which they are looked at; a star stands before those that may be absent. */
export type Members = { readonly [name: string]: Shape }

export const string = { type: 'string' } as const
export const bool = { type: 'bool' } as const
export const readOnlyBool = { type: 'bool', readOnly: true } as const
export const size = { type: 'size' } as const
export const int = { type: 'integer', name: 'int', least: -(2 ** 63), most: 2 ** 63 } as const
export const int32 = { type: 'integer', name: 'int32_t', least: -(2 ** 31), most: 2 ** 31 - 1 } as const
export const uint16 = { type: 'integer', name: 'uint16_t', least: 0, most: 0xffff } as const
export const uint32 = { type: 'integer', name: 'uint32_t', least: 0, most: 0xffff_ffff } as const
export const uint64 = { type: 'integer', name: 'uint64_t', least: 0, most: 2 ** 64 } as const

/** One of a few words. */
export function oneOf<const Word extends string>(name: string, words: readonly Word[]) {
  return { type: 'enum', name, words } as const
}

/** Any number of the same. */
export function listOf<const Item extends Shape>(of: Item) {
  return { type: 'list', of } as const
}

/** Properties within a property. */
export function struct<const Inner extends Members>(name: string, members: Inner) {
  return { type: 'struct', name, members } as const
}

/** What was given for a property. */
type Value<Of> = Of extends { type: 'enum'; words: readonly (infer Word)[] }
  ? Word
  : Of extends { type: 'bool' }
    ? boolean
    : Of extends { type: 'integer' | 'size' }
      ? number
      : Of extends { type: 'list'; of: infer Item }
        ? Value<Item>[]
        : Of extends { type: 'struct'; members: infer Inner }
          ? Values<Inner>
          : string

/** What was given for properties. */
export type Values<Of> = {
  [Name in keyof Of as Name extends `*${string}` ? never : Name]: Value<Of[Name]>
} & { [Name in keyof Of as Name extends `*${infer Plain}` ? Plain : never]?: Value<Of[Name]> }

/** How a property is called when it is spoken of, within `path`. */
type Step = (path: string, name: string | number) => string

/** Reads properties by the schema: the given values are texts, as they stand on a command line, or JSON. */
export class SchemaReader {
  readonly #texts: boolean
  readonly #step: Step

  constructor(notation: 'keyval' | 'json') {
    this.#texts = notation === 'keyval'
    this.#step = (path, name) => {
      if (typeof name === 'number' && !this.#texts) return `${path}[${name}]`
      return path === '' ? String(name) : `${path}.${name}`
    }
  }

  /** @throws Failure */
  read<Of extends Members>(members: Of, given: { readonly [name: string]: Json }): Values<Of> {
    // What was read has the types that the table says.
    return this.#members(members, given, '') as Values<Of>
  }

  #members(members: Members, given: { readonly [name: string]: Json }, path: string): { [name: string]: unknown } {
    const values: { [name: string]: unknown } = {}
    const left = new Set(Object.keys(given))
    for (const [key, shape] of Object.entries(members)) {
      const name = key.replace('*', '')
      const value = given[name]
      if (left.delete(name) && value !== undefined) {
        values[name] = this.#value(shape, value, this.#step(path, name), name)
      } else if (name === key) throw new Failure(`Parameter '${this.#step(path, name)}' is missing`)
    }
    const [stray] = [...left].sort()
    if (stray !== undefined) throw new Failure(`Parameter '${this.#step(path, stray)}' is unexpected`)
    return values
  }

  #value(shape: Shape, value: Json, path: string, name: string): unknown {
    switch (shape.type) {
      case 'struct':
        if (value === null || typeof value !== 'object' || Array.isArray(value)) throw wrongType(path, 'object')
        return this.#members(shape.members, value, path)
      case 'list':
        if (!Array.isArray(value)) throw wrongType(path, 'array')
        return value.map((item, at) => this.#value(shape.of, item, this.#step(path, at), 'null'))
      case 'string':
        return this.#text(value, path)
      case 'enum': {
        const word = this.#text(value, path)
        if (shape.words.includes(word)) return word
        throw new Failure(`Parameter '${name}' does not accept value '${word}'`)
      }
      case 'bool': {
        if (!this.#texts && typeof value !== 'boolean') throw wrongType(path, 'boolean')
        const on = typeof value === 'boolean' ? value : readSwitch(this.#text(value, path))
        if (on === undefined) throw new Failure(`Parameter '${path}' expects 'on' or 'off'`)
        return on
      }
      case 'integer':
        return this.#integer(shape, value, path, name)
      case 'size': {
        const bytes = this.#texts ? scanSize(this.#text(value, path)) : value
        if (typeof bytes === 'bigint' || typeof bytes === 'number') return Number(bytes)
        throw new Failure(`Parameter '${path}' expects ${this.#texts ? 'size' : 'uint64'}`)
      }
    }
  }

  #text(value: Json, path: string): string {
    if (typeof value === 'string') return value
    throw this.#texts ? new Failure(`Parameters '${path}.*' are unexpected`) : wrongType(path, 'string')
  }

  #integer(shape: Shape & { type: 'integer' }, value: Json, path: string, name: string): number {
    const number = this.#texts ? readInteger(this.#text(value, path)) : value
    const unsigned = shape.least === 0
    if (typeof number !== 'number' || !Number.isInteger(number) || Math.abs(number) > 2 ** (unsigned ? 64 : 63)) {
      if (this.#texts) throw new Failure(`Parameter '${path}' expects integer`)
      throw unsigned ? new Failure(`Parameter '${path}' expects uint64`) : wrongType(path, 'integer')
    }
    if (number >= shape.least && number <= shape.most) return number
    throw new Failure(`Parameter '${name}' expects ${shape.name}`)
  }
}

function wrongType(path: string, expected: string): Failure {
  return new Failure(`Invalid parameter type for '${path}', expected: ${expected}`)
}

/** Lines for people: each property that can be set, with its type. */
export function describeMembers(members: Members): string[] {
  const settable = Object.entries(members).filter(([, shape]) => shape.type !== 'bool' || shape.readOnly !== true)
  return settable.map(([name, shape]) => `  ${name.replace('*', '')}=<${typeName(shape)}>`).sort()
}

function typeName(shape: Shape): string {
  if (shape.type !== 'list') return 'name' in shape ? shape.name : shape.type
  // QEMU's own numbers of this kind are all called so.
  return shape.of.type === 'integer' ? 'int' : typeName(shape.of)
}
