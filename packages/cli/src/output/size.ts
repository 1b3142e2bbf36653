/** Sizes as QEMU prints them. */

const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']

/** Three digits and a unit, as in `196 KiB`; from 1000 of a unit on the next one is taken (Source: measured; QEMU's `size_to_str`). */
export function sizeText(bytes: number | bigint): string {
  const value = Number(bytes)
  let unit = 0
  while (unit < units.length - 1 && value * 1.024 >= 1024 ** (unit + 1)) unit++
  return `${general(value / 1024 ** unit, 3)} ${units[unit]}B`
}

/** What lies halfway between two texts goes to the even one in C, and to the greater one in JavaScript. */
function halfToEven(value: number, digits: number): number {
  if (value <= 0) return value
  const scale = 10 ** (digits - 1 - Math.floor(Math.log10(value)))
  const below = Math.floor(value * scale)
  return value * scale - below === 0.5 && below % 2 === 0 ? below / scale : value
}

/** C's `%.{digits}g`: no trailing zeros, an exponent of at least two digits where one is needed. */
export function general(value: number, digits: number): string {
  const text = halfToEven(value, digits).toPrecision(digits)
  const [, mantissa = text, sign, exponent] = /^([^e]*)(?:e([+-])(\d+))?$/.exec(text) ?? []
  const short = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa
  return exponent === undefined ? short : `${short}e${sign}${exponent.padStart(2, '0')}`
}
