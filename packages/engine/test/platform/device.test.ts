/** Block devices, on a loop device. Needs root and losetup; says so where it cannot run. */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { type ByteStore, MemoryStore } from '@moraine/engine'
import { newFile, openFile } from '@moraine/engine/node'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { expectSameBytes, refused, sampleContent, sourceConformance, storeConformance } from '../source/conformance.ts'
import { temporaryFolder } from '../support/folder.ts'
import { attachLoop, detachLoop, losetup, reasonAgainstLoop } from '../support/loop.ts'
import { describeWith } from '../support/process.ts'

const folder = temporaryFolder()
const MiB = 1024 * 1024

function attach(content: Uint8Array, ...options: string[]): string {
  const file = folder.fresh('.img')
  fs.writeFileSync(file, content)
  return attachLoop(file, ...options)
}

describeWith(['losetup'], 'a loop device', () => {
  const reason = reasonAgainstLoop()
  if (reason !== undefined) {
    it.skip(`[skipped: ${reason}]`, () => {})
    return
  }
  const attached: string[] = []
  const detach = () => {
    for (const device of attached.splice(0)) detachLoop(device)
  }
  const loop = (content: Uint8Array, ...options: string[]) => {
    const device = attach(content, ...options)
    attached.push(device)
    return device
  }
  afterAll(detach)

  for (const native of [true, false]) {
    const how = native ? 'with system calls' : 'without system calls'
    storeConformance(`a device ${how}`, (content) => openFile(loop(content), { mode: 'write', native }), {
      fixed: true,
    })
  }
  sourceConformance('a device', async (content) => {
    // Devices end at a sector: the rest of the last one is cut off the test's view.
    const padded = new Uint8Array(Math.ceil(content.length / 512) * 512)
    padded.set(content)
    const { sliceSource } = await import('@moraine/engine')
    if (content.length === 0) return MemoryStore.from(content)
    return sliceSource(await openFile(loop(padded)), 0, content.length, { owns: true })
  })

  describe('in detail', () => {
    let store: ByteStore
    const content = sampleContent(4 * MiB).fill(0xdd, 0, MiB)
    let path = ''
    beforeAll(() => {
      path = loop(content)
    })
    afterEach(() => store.close())

    it('is told from files', async () => {
      store = await openFile(path)
      expect(store.kind).toBe('device')
      expect(store.size).toBe(4 * MiB)
      const other = await openFile(path)
      expect(other.identity).toBe(store.identity)
      await other.close()
      await refused(store.write(0, new Uint8Array(1)), 'denied')
    })

    it('keeps its content when it is a target', async () => {
      const target = await newFile(path)
      store = target.store
      expect(target.inPlace).toBe(true)
      const bytes = new Uint8Array(MiB)
      await store.read(0, bytes)
      expectSameBytes(bytes, new Uint8Array(MiB).fill(0xdd))
      await target.abandon()
      expect(fs.existsSync(path)).toBe(true)
      await store.resize(MiB)
      expect(store.size).toBe(4 * MiB)
      await refused(store.resize(4 * MiB, 'full'), 'unsupported')
    })

    it.skipIf(process.env.MORAINE_NATIVE === 'off')(
      'is zeroed by the kernel, giving space back only when allowed',
      async () => {
        store = await openFile(path, { mode: 'write' })
        const backing = execFileSync(losetup(), ['--noheadings', '--output', 'BACK-FILE', path], { encoding: 'utf8' })
        const blocks = () => fs.statSync(backing.trim()).blocks * 512
        await store.write(0, new Uint8Array(4 * MiB).fill(0xcc))
        await store.flush()
        const full = blocks()
        await store.zero(1000, MiB, 'allocate')
        await store.flush()
        expect(blocks()).toBeGreaterThanOrEqual(full)
        await store.zero(2 * MiB + 1000, MiB, 'unmap')
        await store.flush()
        expect(blocks()).toBeLessThanOrEqual(full - MiB + 65536)
        const bytes = new Uint8Array(4 * MiB)
        await store.read(0, bytes)
        const expected = new Uint8Array(4 * MiB).fill(0xcc)
        expected.fill(0, 1000, 1000 + MiB).fill(0, 2 * MiB + 1000, 3 * MiB + 1000)
        expectSameBytes(bytes, expected)
      },
    )
  })

  it('with blocks of 4096 bytes is zeroed at any range', async () => {
    const store = await openFile(loop(new Uint8Array(MiB).fill(7), '--sector-size', '4096'), { mode: 'write' })
    await store.zero(513, 20_000, 'unmap')
    await store.zero(100_000, 20_000, 'allocate')
    await store.discard(200_001, 30_000)
    const bytes = new Uint8Array(200_000)
    await store.read(0, bytes)
    expectSameBytes(bytes, new Uint8Array(200_000).fill(7).fill(0, 513, 20_513).fill(0, 100_000, 120_000))
    await store.close()
  })

  it('that is only readable is refused for writing', async () => {
    const path = loop(new Uint8Array(MiB), '--read-only')
    const outcome = openFile(path, { mode: 'write' }).then(async (store) => {
      try {
        await store.write(0, new Uint8Array(512))
        await store.flush()
      } finally {
        await store.close()
      }
    })
    const error = await refused(outcome, 'denied').catch(() => refused(outcome, 'io'))
    expect(['EACCES', 'EROFS', 'EPERM']).toContain(error.code)
  })
})
