/** Random steps on a disk, as fast-check makes and shrinks them. */
import fc from 'fast-check'
import type { Step } from '../support/model.ts'

const at = fc.nat()
/** Mostly odd places and lengths, now and then whole clusters. */
const place = fc.oneof({ weight: 2, arbitrary: at }, { weight: 1, arbitrary: fc.nat(600).map((n) => n * 4096) })
const length = fc.oneof(
  fc.nat(2000),
  fc.nat(300_000),
  fc.nat(60).map((n) => n * 4096 - 1),
)

const write: fc.Arbitrary<Step> = fc.record({ do: fc.constant('write'), at: place, length, seed: fc.nat() })
const zero: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('zero'),
  at: place,
  length,
  mode: fc.constantFrom('unmap', 'allocate'),
})
const discard: fc.Arbitrary<Step> = fc.record({ do: fc.constant('discard'), at: place, length })
const pack: fc.Arbitrary<Step> = fc.record({ do: fc.constant('pack'), at: place, value: fc.nat(254) })
const several: fc.Arbitrary<Step> = fc.record({ do: fc.constant('several'), at: place, seed: fc.nat() })
const flush: fc.Arbitrary<Step> = fc.constant({ do: 'flush' })
const reopen: fc.Arbitrary<Step> = fc.constant({ do: 'reopen' })
const snapshot: fc.Arbitrary<Step> = fc.constant({ do: 'snapshot' })
const apply: fc.Arbitrary<Step> = fc.record({ do: fc.constant('apply'), which: fc.nat(9) })
const remove: fc.Arbitrary<Step> = fc.record({ do: fc.constant('delete'), which: fc.nat(9) })
const resize: fc.Arbitrary<Step> = fc.record({ do: fc.constant('resize'), clusters: fc.nat(), tail: fc.nat() })

/** Changes of content alone. */
export const contentSteps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: write },
    { weight: 3, arbitrary: zero },
    { weight: 2, arbitrary: discard },
    { weight: 2, arbitrary: pack },
    { weight: 1, arbitrary: several },
    { weight: 1, arbitrary: flush },
    { weight: 1, arbitrary: reopen },
  ),
  { minLength: 1, maxLength: 14 },
)

/** Everything that can be done to a disk. */
export const allSteps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: write },
    { weight: 3, arbitrary: zero },
    { weight: 2, arbitrary: discard },
    { weight: 2, arbitrary: pack },
    { weight: 1, arbitrary: several },
    { weight: 1, arbitrary: flush },
    { weight: 2, arbitrary: reopen },
    { weight: 3, arbitrary: snapshot },
    { weight: 2, arbitrary: apply },
    { weight: 2, arbitrary: remove },
    { weight: 2, arbitrary: resize },
  ),
  { minLength: 1, maxLength: 16 },
)
