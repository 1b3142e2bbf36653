/** Holes, reservations and in-kernel copies of regular files; qemu-img says where the holes are. */
import fs from 'node:fs'
import { MemoryStore } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { expectSameBytes, refused } from '../source/conformance.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuMap } from '../support/qemu.ts'

const folder = temporaryFolder()
const MiB = 1024 * 1024
const linux = process.platform === 'linux' && process.env.MORAINE_NATIVE !== 'off'

async function extentsOf(store: Awaited<ReturnType<typeof openFile>>) {
  const all: { start: number; length: number; data: boolean; zero: boolean }[] = []
  let batches = 0
  for await (const batch of store.extents(0, store.size)) {
    batches++
    for (const { offset, length, data, zero } of batch) all.push({ start: offset, length, data, zero })
  }
  return { all, batches }
}

describe.runIf(linux)('holes', () => {
  describeWith(['qemu-img'], 'against qemu-img map', () => {
    it('are where qemu-img finds them, in batches of bounded size', async () => {
      const path = folder.fresh('.raw')
      const store = await openFile(path, { mode: 'write', create: true })
      // 2,500 pieces: more than one batch.
      const piece = new Uint8Array(4096).fill(5)
      for (let i = 0; i < 2500; i++) await store.write(i * 16384 + 8192, piece)
      await store.resize(2500 * 16384 + 5 * MiB)
      const { all, batches } = await extentsOf(store)
      const theirs = (await qemuMap(path, 'raw')).map(({ start, length, data, zero }) => ({
        start,
        length,
        data,
        zero,
      }))
      expect(all).toEqual(theirs)
      expect(batches).toBeGreaterThan(1)
      await store.close()
    })

    it('are made by zero and discard, and filled by nothing but data', async () => {
      const path = folder.fresh('.raw')
      const store = await openFile(path, { mode: 'write', create: true })
      await store.write(0, new Uint8Array(8 * MiB).fill(9))
      await store.zero(MiB, MiB, 'unmap')
      await store.discard(4 * MiB, MiB)
      await store.zero(8 * MiB, 4 * MiB, 'unmap')
      await store.flush()
      expect(store.size).toBe(12 * MiB)
      expect(await store.allocatedSize?.()).toBe(6 * MiB)
      const theirs = (await qemuMap(path, 'raw')).map(({ start, length, data }) => [start / MiB, length / MiB, data])
      expect(theirs).toEqual([
        [0, 1, true],
        [1, 1, false],
        [2, 2, true],
        [4, 1, false],
        [5, 3, true],
        [8, 4, false],
      ])
      await store.close()
    })
  })

  it('are never made by zero with mode allocate', async () => {
    const store = await openFile(folder.fresh('.raw'), { mode: 'write', create: true })
    await store.write(0, new Uint8Array(4 * MiB).fill(9))
    await store.zero(MiB, MiB, 'allocate')
    await store.zero(4 * MiB, 2 * MiB, 'allocate')
    await store.flush()
    expect(await store.allocatedSize?.()).toBe(6 * MiB)
    const bytes = new Uint8Array(6 * MiB)
    await store.read(0, bytes)
    expectSameBytes(bytes, new Uint8Array(6 * MiB).fill(9, 0, MiB).fill(9, 2 * MiB, 4 * MiB))
    await store.close()
  })

  it.each([
    ['off', 0],
    ['metadata', 0],
    ['falloc', 3 * MiB],
    ['full', 3 * MiB],
  ] as const)('preallocation %s takes %i bytes', async (mode, bytes) => {
    const store = await openFile(folder.fresh('.raw'), { mode: 'write', create: true })
    await store.resize(3 * MiB, mode)
    expect(store.size).toBe(3 * MiB)
    expect(await store.allocatedSize?.()).toBe(bytes)
    await refused(store.resize(MiB, 'falloc'), 'unsupported')
    await store.close()
  })

  it('punches no hole far beyond the end when zero grows a file beside writes under way', async () => {
    const store = await openFile(folder.fresh('.raw'), { mode: 'write', create: true })
    const data = new Uint8Array(MiB).fill(3)
    const tasks: Promise<void>[] = []
    for (let i = 0; i < 16; i++) {
      const at = (15 - i) * 2 * MiB
      tasks.push(store.write(at, data), store.zero(at + MiB, MiB, 'unmap'))
    }
    await Promise.all(tasks)
    expect(store.size).toBe(32 * MiB)
    const bytes = new Uint8Array(32 * MiB)
    await store.read(0, bytes)
    for (let i = 0; i < 16; i++) {
      expectSameBytes(bytes.subarray(i * 2 * MiB, (i * 2 + 1) * MiB), data, `piece ${i}`)
      expect(bytes[(i * 2 + 1) * MiB]).toBe(0)
    }
    await store.close()
  })
})

describe.runIf(linux)('in-kernel copies', () => {
  it('copy between files at any offsets, in bounded steps', async () => {
    const from = await openFile(folder.fresh('.raw'), { mode: 'write', create: true })
    const content = new Uint8Array(3 * MiB + 123).map((_, i) => (i * 31) % 251)
    await from.write(0, content)
    const to = await openFile(folder.fresh('.raw'), { mode: 'write', create: true })
    let done = 0
    const length = content.length - 5
    while (done < length) {
      const copied = await to.copyFrom?.(from, 5 + done, 7777 + done, length - done)
      expect(copied).toBeGreaterThan(0)
      done += copied ?? 0
    }
    expect(to.size).toBe(7777 + length)
    const bytes = new Uint8Array(length)
    await to.read(7777, bytes)
    expectSameBytes(bytes, content.subarray(5))
    await from.close()
    await to.close()
  })

  it('say 0 when it cannot be done', async () => {
    const to = await openFile(folder.fresh('.raw'), { mode: 'write', create: true })
    expect(await to.copyFrom?.(MemoryStore.from(new Uint8Array(100)), 0, 0, 100)).toBe(0)
    const device = await openFile(folder.fresh('.raw'), { mode: 'write', create: true, native: false })
    await device.write(0, new Uint8Array(10))
    expect(await device.copyFrom?.(to, 0, 0, 10)).toBe(0)
    // Overlapping ranges of one file are refused by the kernel.
    expect(await device.copyFrom?.(device, 0, 2, 8)).toBe(0)
    await to.write(0, new Uint8Array(100).fill(1))
    expect(await to.copyFrom?.(to, 0, 10, 50)).toBe(0)
    expect(to.size).toBe(100)
    await to.zero(200, 100, 'unmap')
    expect(to.size).toBe(300)
    expect(fs.statSync(to.name).size).toBe(300)
    await to.close()
    await device.close()
  })
})
