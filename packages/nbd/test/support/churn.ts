/** Random work on a store beside a model of what it must hold. */
import { expect } from 'vitest'
import type { Random } from '../../../engine/test/support/random.ts'
import type { NbdStore } from '../../src/index.ts'

/** Several requests at once, then a look at some of the bytes. */
export async function churn(store: NbdStore, model: Buffer, random: Random): Promise<void> {
  const several = Array.from({ length: random.int(1, 6) }, async () => {
    const at = random.int(0, model.length - 1)
    const length = random.int(0, Math.min(random.bool(0.15) ? 4_000_000 : 20_000, model.length - at))
    const kind = random.int(0, 4)
    if (kind <= 1) {
      const bytes = random.bytes(length)
      model.set(bytes, at)
      await store.write(at, bytes)
    } else if (kind === 2) {
      model.fill(0, at, at + length)
      await store.zero(at, length, random.bool() ? 'unmap' : 'allocate')
    } else if (kind === 3) await store.flush()
    else await store.read(at, new Uint8Array(length))
  })
  await Promise.all(several)
  const at = random.int(0, model.length - 1)
  const into = Buffer.alloc(random.int(0, Math.min(100_000, model.length - at)))
  await store.read(at, into)
  expect(into.equals(model.subarray(at, at + into.length)), `${into.length} bytes at ${at}`).toBe(true)
}
