/** A scratch store beside a real one: the same calls on both, and the source is never touched. */
import { describe, expect, it } from 'vitest'
import { MemoryStore, ScratchStore } from '../../src/index.ts'
import { Random, seed } from '../support/random.ts'

describe('a scratch store', () => {
  it('reads as what was written for real does, and leaves the source alone', async () => {
    const random = new Random(seed('scratch'))
    for (let turn = 0; turn < 20; turn++) {
      const size = random.int(0, 500_000 - 1)
      const bytes = random.bytes(size)
      const source = MemoryStore.from(bytes)
      const real = MemoryStore.from(bytes)
      const scratch = new ScratchStore(source)
      for (let step = 0; step < 40; step++) {
        const offset = random.int(0, 600_000 - 1)
        const length = random.int(0, 200_000 - 1)
        const call = random.int(0, 4 - 1)
        if (call === 0) {
          const data = random.bytes(length)
          await real.write(offset, data)
          await scratch.write(offset, data)
        } else if (call === 1) {
          await real.zero(offset, length, 'unmap')
          await scratch.zero(offset, length, 'unmap')
        } else if (call === 2) {
          await real.resize(offset)
          await scratch.resize(offset)
        }
        expect(scratch.size).toBe(real.size)
        const at = random.int(0, real.size + 1 - 1)
        const read = { real: new Uint8Array(real.size - at), scratch: new Uint8Array(real.size - at) }
        await real.read(at, read.real)
        await scratch.read(at, read.scratch)
        expect(Buffer.compare(read.scratch, read.real)).toBe(0)
      }
      expect(Buffer.compare(source.bytes(), bytes)).toBe(0)
    }
  })

  it('keeps no more than it may, and zeros for nothing', async () => {
    const scratch = new ScratchStore(new MemoryStore({ size: 2 ** 20 }), { limit: 3 * 65_536 })
    await scratch.zero(0, 2 ** 50, 'unmap')
    expect(scratch.size).toBe(2 ** 50)
    for (let at = 0; at < 2 ** 24; at += 2 ** 20) await scratch.write(at, new Uint8Array(2 ** 20))
    await scratch.write(65_536, new Uint8Array(65_536).fill(1))
    await scratch.write(10, new Uint8Array(10).fill(1))
    await expect(scratch.write(2 ** 20, new Uint8Array(1))).rejects.toMatchObject({ kind: 'limit' })
    await scratch.zero(65_536, 65_536, 'unmap')
    await scratch.write(2 ** 20, new Uint8Array(1))
  })

  it('counts the zeros that stand before what the source shows', async () => {
    const scratch = new ScratchStore(new MemoryStore({ size: 2 ** 30 }), { limit: 128 * 1024 })
    await scratch.zero(0, 2 ** 26, 'unmap')
    await expect(scratch.zero(0, 2 ** 28, 'unmap')).rejects.toMatchObject({ kind: 'limit' })
  })

  it('takes parts of one page at once', async () => {
    const scratch = new ScratchStore(MemoryStore.from(new Uint8Array(65_536).fill(9)), { limit: 65_536 })
    const parts = Array.from({ length: 16 }, (_, i) => i * 4096)
    await Promise.all(parts.map((at) => scratch.write(at, new Uint8Array(100).fill(at / 4096))))
    const whole = new Uint8Array(65_536)
    await scratch.read(0, whole)
    expect(parts.map((at) => [whole[at], whole[at + 100]])).toEqual(parts.map((at) => [at / 4096, 9]))
  })

  it('refuses what passes its end as the store would', async () => {
    const scratch = new ScratchStore(MemoryStore.from(new Uint8Array(100)))
    await expect(scratch.read(50, new Uint8Array(51))).rejects.toMatchObject({ kind: 'io' })
  })
})
