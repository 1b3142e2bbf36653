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
  /** Values that may be given too, and that QEMU does not know. */
  readonly ours?: readonly string[]
  /** It is about the file under the image; QEMU shows it only where that file is known. */
  readonly ofFile?: true
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

const largestSize = 0xffff_ffff_ffff_ffffn

/** Why a text is no size: it is not written like one, or it passes 2^64 − 1. */
export type SizeFault = 'invalid' | 'range'

/** A size as people write it, in bytes: a whole number or a fraction, with an optional suffix b, k, M, G, T, P or E (powers of 1024,
 *  either case; `defaultSuffix` applies without one). Hexadecimal (`0x…`) has no fraction. Part of a byte is rounded, half up.
 *  Source: QEMU 7.2's `qemu_strtosz`, whose fraction is a double too. */
export function scanSize(text: string, defaultSuffix = 'b'): bigint | SizeFault {
  const match = /^[ \t\n\v\f\r]*\+?(?:(0x[0-9a-f]+)|(\d+)(?:\.(\d*))?)([bkmgtpe])?$/i.exec(text)
  if (match === null) return 'invalid'
  const [, hex, decimal = '0', digits = '', suffix] = match
  const whole = BigInt(hex ?? decimal)
  // As in QEMU, a whole part that is too large is the end, and what follows it is then in the way.
  if (whole > largestSize) return digits === '' && suffix === undefined ? 'range' : 'invalid'
  const shift = sizeSuffixes[(suffix ?? defaultSuffix).toLowerCase()] ?? 0n
  const fraction = BigInt(Math.trunc(Number(`0.${digits}`) * 2 ** 64))
  if (shift === 0n && fraction > 0n) return 'invalid'
  const value = (whole << shift) + (((fraction << shift) + (1n << 63n)) >> 64n)
  return value > largestSize ? 'range' : value
}

/** `scanSize` for callers that need not know what is wrong: undefined where the text is no size. */
export function parseSize(text: string, defaultSuffix = 'b'): bigint | undefined {
  const size = scanSize(text, defaultSuffix)
  return typeof size === 'bigint' ? size : undefined
}

/** Whether a text is a hexadecimal number with a suffix, which is easily misread (`0x1e` is 30, `0x1k` is 1024). QEMU 7.2 takes it with a warning. */
export function isHexWithSuffix(text: string): boolean {
  return /^[ \t\n\v\f\r]*\+?0x0*[0-9a-f]{1,16}[kmgtp]/i.test(text)
}

/** A whole number in C's notations (decimal, `0x…`, octal `0…`), read as 64 bits with a sign, as QEMU shows it: from 2^63 on it is negative.
 *  Source: QEMU 7.2's `qemu_strtou64` with base 0. */
function scanNumber(text: string): number | SizeFault {
  const match = /^[ \t\n\v\f\r]*([+-]?)(?:(0x[0-9a-f]+|[1-9]\d*)|0([0-7]*))$/i.exec(text)
  if (match === null) return 'invalid'
  const [, sign, plain, octal = ''] = match
  const value = plain === undefined ? BigInt(`0o0${octal}`) : BigInt(plain)
  if (value > largestSize) return 'range'
  return Number(BigInt.asIntN(64, sign === '-' ? -value : value))
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
  // Of several choices for one name only the last is looked at, as in QEMU; everything else is read where it stands.
  const choices = new Map<string, () => OptionValue>()
  for (const [name, text] of pairs) {
    const spec = table.find((entry) => entry.name === name)
    if (spec === undefined) throw new MoraineError('invalid', `Invalid parameter '${name}'`, { field: name })
    if (spec.refused !== undefined) {
      throw new MoraineError('unsupported', `option '${name}' is not supported: ${spec.refused}`, { field: name })
    }
    if (spec.type === 'enum') choices.set(name, () => readValue(spec, text))
    else values[name] = readValue(spec, text)
  }
  for (const [name, read] of choices) values[name] = read()
  return values
}

/** QEMU's words for a text that is no size. */
export function sizeComplaint(name: string, text: string, fault: SizeFault): string {
  if (fault === 'range') return `Value '${text}' is out of range for parameter '${name}'`
  return (
    `Parameter '${name}' expects a non-negative number below 2^64\n` +
    'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.'
  )
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
      const number = scanNumber(text)
      if (typeof number === 'number') return number
      throw new MoraineError(
        'invalid',
        number === 'range'
          ? `Value '${text}' is too large for parameter '${spec.name}'`
          : `Parameter '${spec.name}' expects a number`,
        { field: spec.name, value: text },
      )
    }
    case 'size': {
      const size = scanSize(text)
      if (typeof size === 'bigint') return size
      throw new MoraineError('invalid', sizeComplaint(spec.name, text, size), { field: spec.name, value: text })
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
