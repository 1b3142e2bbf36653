/** What stands in for `node:path` in the standalone executable gives the same answers. */
import path from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import ours from '../../src/platform/bun/path.ts'

const part = fc.constantFrom('', '.', '..', '...', 'a', '.b', 'c.d', 'e f', '..g')
const name = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'))

it('answers as node:path does', () => {
  fc.assert(
    fc.property(name, name, (a, b) => {
      expect(ours.dirname(a)).toBe(path.dirname(a))
      expect(ours.basename(a)).toBe(path.basename(a))
      expect(ours.basename(a, '.d')).toBe(path.basename(a, '.d'))
      expect(ours.join(a, b)).toBe(path.join(a, b))
      expect(ours.join(path.dirname(a), path.basename(b))).toBe(path.join(path.dirname(a), path.basename(b)))
      expect(ours.resolve('/x', a)).toBe(path.resolve('/x', a))
    }),
    { numRuns: 2000 },
  )
})
