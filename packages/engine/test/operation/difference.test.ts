/** Finding the first byte that differs, or is not zero. */
import { describe, expect, it } from 'vitest'
import { firstDifference, firstNonZero } from '../../src/operation/difference.ts'
import { Random, seed } from '../support/random.ts'

describe('the first difference', () => {
  it('is found at every place and alignment', () => {
    const random = new Random(seed('difference'))
    for (let round = 0; round < 2000; round++) {
      const length = random.int(0, 300)
      const [skipA, skipB] = [random.int(0, 5), random.int(0, 5)]
      const content = random.bytes(length)
      const a = new Uint8Array(length + 8).subarray(skipA, skipA + length)
      const b = new Uint8Array(length + 8).subarray(skipB, skipB + length)
      a.set(content)
      b.set(content)
      expect(firstDifference(a, b)).toBeUndefined()
      if (length === 0) continue
      const at = random.int(0, length - 1)
      b[at] = (b[at] ?? 0) ^ random.int(1, 255)
      if (random.bool()) b[length - 1] = (a[length - 1] ?? 0) ^ 1
      expect(firstDifference(a, b)).toBe(at)
    }
  })

  it('from zeros is the first byte that is none', () => {
    for (const length of [0, 1, 100, 4095, 4096, 10_000]) {
      const bytes = new Uint8Array(length)
      expect(firstNonZero(bytes)).toBeUndefined()
      for (const at of [0, 17, 4095, 4096, length - 1].filter((place) => place >= 0 && place < length)) {
        bytes.fill(0)
        bytes[at] = 1
        bytes[length - 1] = 1
        expect(firstNonZero(bytes)).toBe(at)
      }
    }
  })
})
