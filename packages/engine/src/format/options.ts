/** A format's creation options, declared once: help, validation, API schema and forms are read from these tables. */
import { MoraineError } from '../core/index.ts'

/** One option of a format. */
export interface OptionSpec {
  readonly name: string
  readonly type: 'string' | 'size' | 'number' | 'boolean' | 'enum'
  /** One line for people, QEMU's own wording where QEMU has the option. */
  readonly help: string
  /** What a creator takes when the option is not given. */
  readonly default?: OptionValue
  /** For `enum`: what may be given. */
  readonly values?: readonly string[]
  /** Known by name and refused, with this reason, until it is built. */
  readonly refused?: string
}

/** A value of an option after validation; `size` values are bytes. */
export type OptionValue = string | number | bigint | boolean

/** Validated options by name; what is absent was not given. */
export type OptionValues = Readonly<Record<string, OptionValue>>

const sizeSuffixes: Record<string, bigint> = {
  b: 0n,
  k: 10n,
  m: 20n,
  g: 30n,
  t: 40n,
  p: 50n,
  e: 60n,
}

/** A size as people write it, in bytes: a whole number or a fraction, with an optional suffix b, k, M, G, T, P or E (powers of 1024,
 *  either case; `defaultSuffix` applies without one). Hexadecimal (`0x…`) has no fraction and no suffix. Undefined when it is none of these or passes 2^64 − 1. Source: QEMU's `qemu_strtosz`. */
export function parseSize(text: string, defaultSuffix = 'b'): bigint | undefined {
  const match = /^\s*(?:(0x[0-9a-f]+)|(\d+)(?:\.(\d*))?|\.(\d+))([bkmgtpe])?$/i.exec(text)
  if (match === null) return undefined
  const [, hex, whole, fraction = match[4] ?? '', , suffix] = match
  if (hex !== undefined) {
    if (suffix !== undefined) return undefined
    const value = BigInt(hex)
    return value > 0xffff_ffff_ffff_ffffn ? undefined : value
  }
  const shift = sizeSuffixes[(suffix ?? defaultSuffix).toLowerCase()] ?? 0n
  const unit = 1n << shift
  let value = BigInt(whole ?? '0') * unit
  if (fraction !== '') {
    if (unit === 1n && /[1-9]/.test(fraction)) return undefined
    value += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length)
  }
  return value > 0xffff_ffff_ffff_ffffn ? undefined : value
}

/** Splits `a=1,b=x,,y,c` into pairs: `,,` is a comma within a value, a bare `key` means `on`, a bare `nokey` that `key` is off. Source: QEMU's option grammar. */
export function splitOptions(text: string): [name: string, value: string][] {
  const pairs: [string, string][] = []
  let field = ''
  const fields: string[] = []
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== ',') field += text[i]
    else if (text[i + 1] === ',') {
      field += ','
      i++
    } else {
      fields.push(field)
      field = ''
    }
  }
  fields.push(field)
  for (const item of fields) {
    if (item === '') continue
    const at = item.indexOf('=')
    if (at >= 0) pairs.push([item.slice(0, at), item.slice(at + 1)])
    else pairs.push(item.startsWith('no') ? [item.slice(2), 'off'] : [item, 'on'])
  }
  return pairs
}

/** Checks pairs against a table. The last of several values for one name counts.
 *  @throws MoraineError `invalid` for an unknown name or a value outside its type (QEMU's words), `unsupported` for a refused option. */
export function readOptions(
  table: readonly OptionSpec[],
  pairs: Iterable<readonly [string, string]>,
): Record<string, OptionValue> {
  const values: Record<string, OptionValue> = {}
  for (const [name, text] of pairs) {
    const spec = table.find((entry) => entry.name === name)
    if (spec === undefined) throw new MoraineError('invalid', `Invalid parameter '${name}'`, { field: name })
    if (spec.refused !== undefined) {
      throw new MoraineError('unsupported', `option '${name}' is not supported: ${spec.refused}`, { field: name })
    }
    values[name] = readValue(spec, text)
  }
  return values
}

function readValue(spec: OptionSpec, text: string): OptionValue {
  switch (spec.type) {
    case 'string':
      return text
    case 'boolean':
      if (text === 'on' || text === 'yes' || text === 'true' || text === 'y') return true
      if (text === 'off' || text === 'no' || text === 'false' || text === 'n') return false
      throw new MoraineError('invalid', `Parameter '${spec.name}' expects 'on' or 'off'`, {
        field: spec.name,
        value: text,
      })
    case 'number': {
      if (!/^(0x[0-9a-f]+|\d+)$/i.test(text)) {
        throw new MoraineError('invalid', `Parameter '${spec.name}' expects a number`, {
          field: spec.name,
          value: text,
        })
      }
      return Number(text)
    }
    case 'size': {
      const size = parseSize(text)
      if (size === undefined) {
        throw new MoraineError(
          'invalid',
          `Parameter '${spec.name}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.`,
          { field: spec.name, value: text },
        )
      }
      return size
    }
    case 'enum':
      if (spec.values?.includes(text)) return text
      throw new MoraineError('invalid', `Invalid parameter '${text}'`, {
        field: spec.name,
        value: text,
        rule: `one of ${spec.values?.join(', ')}`,
      })
  }
}
