/** Sizes with their units, as CIM writes them. Facts: DMTF DSP0004 2.6, annex C ("Programmatic Units"); DSP0243 2.1, section 9.1. */
import { MoraineError } from '../../core/index.ts'

/** Units of before there were programmatic ones, as OVF 0.9 and VirtualBox write them. */
const words: Readonly<Record<string, bigint>> = {
  byte: 1n,
  bytes: 1n,
  kilobytes: 1n << 10n,
  megabytes: 1n << 20n,
  gigabytes: 1n << 30n,
  terabytes: 1n << 40n,
}

/** Bytes of one unit: `byte * 2^30`, `byte * 10^9`, `byte*1024`, with blanks anywhere, and `MegaBytes`; undefined for what is no unit of bytes. */
export function unitBytes(text: string): bigint | undefined {
  const plain = text.replace(/\s+/g, '').toLowerCase()
  const word = words[plain]
  if (word !== undefined) return word
  const [, factor = '', power] = /^bytes?\*([0-9]{1,9})(?:\^([0-9]{1,2}))?$/.exec(plain) ?? []
  if (factor === '') return undefined
  return power === undefined ? BigInt(factor) : BigInt(factor) ** BigInt(power)
}

/** A capacity in bytes. `properties` gives the values of `${name}`; undefined where one has none.
 *  @throws MoraineError `invalid` for what is no number, no unit, or passes 2^53 − 1. */
export function capacityBytes(
  given: { capacity: string; units: string | undefined },
  place: { path: string; field: string },
  properties: (name: string) => string | undefined = () => undefined,
): number | undefined {
  const refuse = (value: string, rule: string) =>
    new MoraineError('invalid', `the descriptor has a ${place.field} that is none`, {
      ...place,
      value: value.slice(0, 80),
      rule,
    })
  const property = /^\s*\$\{([^}]*)\}\s*$/.exec(given.capacity)?.[1]
  const text = property === undefined ? given.capacity : properties(property)
  if (text === undefined) return undefined
  if (!/^\s*[0-9]{1,20}\s*$/.test(text)) throw refuse(text, 'a whole number')
  const unit = unitBytes(given.units?.trim() || 'byte')
  if (unit === undefined) throw refuse(given.units ?? '', 'a unit as byte * 2^30')
  const bytes = BigInt(text.trim()) * unit
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`${text} × ${unit}`, 'at most 2^53 - 1 bytes')
  return Number(bytes)
}
