/** Numbers with two decimals, as C's printf rounds them. */

/** `%.2f`: a value halfway between two goes to the even one, where `toFixed` goes up. Halfway is exact in binary only for odd eighths. */
export function twoDecimals(value: number): string {
  const eighths = value * 8
  if (!Number.isInteger(eighths) || eighths % 2 === 0) return value.toFixed(2)
  const below = Math.floor(value * 100)
  return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2)
}
