import fc from 'fast-check'
import { expect, test } from 'vitest'
import { allocatedRun, eachNonZero, isZero } from '../../src/bytes/zero.ts'

const slowIsZero = (bytes: Uint8Array, start: number, end: number) => bytes.subarray(start, end).every((b) => b === 0)

test('isZero sees a single byte anywhere, at every alignment', () => {
  const room = new Uint8Array(256)
  for (let shift = 0; shift < 9; shift++) {
    const bytes = room.subarray(shift, shift + 200)
    expect(isZero(bytes)).toBe(true)
    expect(isZero(bytes, 7, 7)).toBe(true)
    for (let i = 0; i < bytes.length; i++) {
      bytes[i] = 0x80
      expect(isZero(bytes), `byte ${i}, shift ${shift}`).toBe(false)
      expect(isZero(bytes, 0, i)).toBe(true)
      expect(isZero(bytes, i + 1, bytes.length)).toBe(true)
      expect(isZero(bytes, i, i + 1)).toBe(false)
      bytes[i] = 0
    }
  }
})

test('allocatedRun agrees with the plain definition', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(3), fc.nat(300)), { maxLength: 12 }),
      fc.nat(9),
      fc.constantFrom(1, 8, 24, 37, 64, 512),
      (runs, start, sectorBytes) => {
        const bytes = Uint8Array.from(
          runs.flatMap(([value, count]) => new Array<number>(count).fill(value === 3 ? 1 : 0)),
        )
        let at = Math.min(start, bytes.length)
        while (at < bytes.length) {
          const run = allocatedRun(bytes, at, bytes.length, sectorBytes)
          expect(run.length).toBeGreaterThan(0)
          for (let s = at; s < at + run.length; s += sectorBytes) {
            expect(slowIsZero(bytes, s, Math.min(s + sectorBytes, bytes.length))).toBe(run.zero)
          }
          const next = at + run.length
          if (next < bytes.length) {
            expect((next - at) % sectorBytes).toBe(0)
            expect(slowIsZero(bytes, next, Math.min(next + sectorBytes, bytes.length))).toBe(!run.zero)
          }
          at = next
        }
        expect(allocatedRun(bytes, at, at, sectorBytes)).toEqual({ zero: true, length: 0 })
      },
    ),
  )
})

test('eachNonZero names every number but zeros of either sign', () => {
  const numbers = new Float64Array(1000)
  const told = (): number[] => {
    const found: number[] = []
    eachNonZero(numbers, (at) => found.push(at))
    return found
  }
  numbers[3] = -0
  expect(told()).toEqual([])
  for (const [at, value] of [
    [0, 1],
    [255, -1],
    [256, Number.NaN],
    [700, 5e-324],
    [999, Number.POSITIVE_INFINITY],
  ] as const) {
    numbers[at] = value
  }
  expect(told()).toEqual([0, 255, 256, 700, 999])
})
