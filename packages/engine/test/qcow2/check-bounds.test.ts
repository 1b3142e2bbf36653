/** What a check may cost: memory by windows of counts (with the same result), work on tables made to overlap, lines; and how it is stopped. */
import { type CheckOptions, type CheckResult, checkImage, MemoryStore, openDisk, qcow2 } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing, kindOf } from '../support/disk.ts'
import { checkStore } from '../support/memory-image.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Image } from '../support/qcow2-image.ts'
import type { Clusters, Qcow2Spec } from '../support/qcow2-spec.ts'
import { type Random, sample, seed, timeFor } from '../support/random.ts'

type Repair = CheckOptions['repair']

/** Counts of 64 clusters at a time. */
const tiny = 128

async function check(
  store: MemoryStore,
  repair: Repair,
  more: { checkBytes?: number } & Partial<CheckOptions> = {},
): Promise<{ result: CheckResult; lines: string[] }> {
  const lines: string[] = []
  const { checkBytes, ...options } = more
  const disk = await openDisk(store, {
    formats: [qcow2],
    mode: repair === 'none' ? 'read' : 'write',
    purpose: 'check',
    ...(checkBytes === undefined ? {} : { limits: { checkBytes } }),
  })
  const report = (line: string): unknown => lines.push(line)
  const result = await closing(disk, () => checkImage(qcow2, disk, { repair, report, ...options }))
  return { result, lines }
}

/** Hundreds of clusters of every sort. */
function largeSpec(random: Random): Qcow2Spec {
  const clusters: Clusters = {}
  for (let i = 0; i < 150; i++) {
    const kind = random.pick(['data', 'data', 'compressed', 'zero-allocated'] as const)
    clusters[random.int(0, 500)] = { kind, bytes: random.int(0, 255) }
  }
  const spec: Qcow2Spec = {
    clusterBits: 9,
    size: 300_032n,
    refcountOrder: random.int(3, 6),
    clusters,
    featureNames: false,
  }
  if (random.bool()) spec.snapshots = [{ id: '1', name: 's', clusters: 'share' }]
  else spec.bitmaps = [{ name: 'b', granularityBits: 16, flags: 2, table: [new Uint8Array(512).fill(1)] }]
  return spec
}

function damage(image: Qcow2Image, random: Random): void {
  const total = image.bytes.length / 512
  for (let i = random.int(0, 4); i > 0; i--) {
    const table = random.pick(Object.values(image.at.l2)) + random.int(0, 63) * 8
    const what = random.int(0, 5)
    if (what === 0) image.setCount(random.int(0, total - 1), BigInt(random.int(0, 3)))
    else if (what === 1) image.setU64(table, image.getU64(table) ^ (1n << 63n))
    else if (what === 2) image.setU64(table, BigInt(random.int(1, total + 1) * 512) | (1n << 63n))
    else if (what === 3) image.setU64(table, 0n)
    else if (what === 4) image.setU64(image.at.l1 + 8, image.getU64(image.at.l1))
    else image.setU64(image.at.refcountTable + random.int(0, 1) * 8, 0n)
  }
}

describe('windows of counts', () => {
  const runSeed = seed('check-windows')

  it(
    'find and repair what one window does',
    async () => {
      const rounds = Array.from({ length: 400 }, (_, i) => i)
      await sample('check-windows', rounds, { seed: runSeed, ms: 8000, atLeast: 20 }, async (_round, random) => {
        const image = buildQcow2(largeSpec(random))
        damage(image, random)
        for (const repair of ['none', 'leaks', 'all'] as const) {
          const [one, many] = [MemoryStore.from(image.bytes.slice()), MemoryStore.from(image.bytes.slice())]
          const attempt = async (store: MemoryStore, checkBytes?: number) => {
            const settings = checkBytes === undefined ? {} : { checkBytes }
            try {
              const { result, lines } = await check(store, repair, settings)
              return { result, lines: lines.sort() }
            } catch (error) {
              return (error as Error).message
            }
          }
          expect(await attempt(many, tiny), repair).toEqual(await attempt(one))
          expect(Buffer.compare(many.bytes(), one.bytes()), `bytes after ${repair}`).toBe(0)
        }
      })
    },
    timeFor(8000),
  )

  it('rebuild the counts of a file too large to remember what is free', async () => {
    const clusters: Clusters = {}
    for (let i = 0; i < 1500; i++) clusters[i] = { kind: 'data', bytes: i % 256 }
    const image = buildQcow2({ clusterBits: 9, size: 1n << 20n, clusters, featureNames: false })
    image.setU64(image.at.refcountTable + 8, 0n)
    const store = MemoryStore.from(image.bytes)
    const first = await check(store, 'all', { checkBytes: tiny })
    expect(first.lines).toContain('Rebuilding refcount structure')
    expect([first.result.corruptions, first.result.leaks, first.result.checkErrors]).toEqual([0, 0, 0])
    const { result, lines } = await checkStore(store, 'none')
    expect([result.corruptions, result.leaks, lines]).toEqual([0, 0, []])
  })
})

describe('a check', () => {
  it('counts what hundreds of snapshots share once for all', async () => {
    const snapshots = Array.from({ length: 300 }, (_, i) => ({ id: `${i}`, name: 'x', clusters: 'share' as const }))
    const clusters: Clusters = { 0: { kind: 'data', bytes: 1 }, 1: { kind: 'compressed', bytes: 2 } }
    const image = buildQcow2({ clusterBits: 12, clusters, snapshots })
    const { result, lines } = await checkStore(MemoryStore.from(image.bytes), 'none')
    expect([result.corruptions, result.leaks, lines]).toEqual([0, 0, []])
    image.setCount(Number(image.getU64(image.l2At(0))) / 4096, 300n)
    const wrong = await checkStore(MemoryStore.from(image.bytes), 'none')
    expect(wrong.lines).toEqual([
      `ERROR cluster ${Number(image.getU64(image.l2At(0))) / 4096} refcount=300 reference=301`,
    ])
  })

  it('of one table named 65,536 times ends soon, and says no more than a million lines', async () => {
    const clusters: Clusters = { 0: { kind: 'data', bytes: 1 } }
    const image = buildQcow2({ clusterBits: 16, size: 1n << 30n, l1Size: 65_536, clusters })
    const table = image.at.l2[0] ?? 0
    for (let i = 0; i < 8192; i++) image.setU64(table + i * 8, image.getU64(table))
    for (let i = 0; i < 65_536; i++) image.setU64(image.at.l1 + i * 8, BigInt(table))
    const start = performance.now()
    let count = 0
    let last = ''
    const report = (line: string): void => {
      count++
      last = line
    }
    const { result } = await check(MemoryStore.from(image.bytes), 'none', { report })
    expect(performance.now() - start).toBeLessThan(20_000)
    // 2^29 references to the data cluster and 2^16 to the table, of which 65,535 each fit; both counts are stored as 1; and with that count
    // every L1 entry should be COPIED.
    const overflow = 2 ** 29 - 65_535 + 1
    expect(result.corruptions).toBe(overflow + 2 + 65_536)
    expect(count).toBe(1_000_001)
    expect(last).toMatch(/^\d+ more lines are left out$/)
  })

  it('of tables that begin anywhere in a cluster ends soon', async () => {
    const clusters: Clusters = { 0: { kind: 'data', bytes: 1 } }
    const image = buildQcow2({ clusterBits: 16, size: 1n << 30n, l1Size: 65_536, clusters })
    for (let i = 0; i < 65_536; i++)
      image.setU64(image.at.l1 + i * 8, BigInt(image.at.l2[0] ?? 0) + BigInt((i % 127) + 1) * 512n)
    const start = performance.now()
    const { result } = await check(MemoryStore.from(image.bytes), 'none', { report: () => {} })
    expect(performance.now() - start).toBeLessThan(20_000)
    expect(result.corruptions).toBeGreaterThan(65_536)
  })

  it('refuses snapshots whose tables lie on one another for ever', async () => {
    const snapshot = { id: '', name: '', clusters: {}, extraSize: 16 }
    const image = buildQcow2({ clusterBits: 16, snapshots: [snapshot] })
    const at = image.at.snapshotTable
    const entry = image.bytes.slice(at, at + 56)
    image.grow(at + 2000 * 56)
    for (let i = 0; i < 2000; i++) {
      image.bytes.set(entry, at + i * 56)
      image.setU32(at + i * 56 + 8, 0x40_0000)
    }
    image.set('nb_snapshots', 2000n)
    const store = MemoryStore.from(image.bytes)
    expect(await kindOf(check(store, 'none', { report: () => {} }))).toBe('limit')
  })

  it('tells how far it is, and stops when it is told to', async () => {
    const clusters: Clusters = {}
    for (let i = 0; i < 200; i++) clusters[i * 64] = { kind: 'data', bytes: 1 }
    const image = buildQcow2({ clusterBits: 9, size: 200n * 32_768n, clusters, featureNames: false })
    const seen: number[] = []
    const total = 200 * 32_768
    await check(MemoryStore.from(image.bytes), 'none', {
      onProgress(progress) {
        expect(progress.total).toBe(total)
        seen.push(progress.done)
      },
    })
    expect(seen.length).toBeGreaterThan(3)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(total)
    const stop = new AbortController()
    const stopped = check(MemoryStore.from(image.bytes), 'none', {
      signal: stop.signal,
      onProgress: () => stop.abort(),
    })
    expect(await kindOf(stopped)).toBe('cancelled')
  })

  it('repairs nothing that is open for reading', async () => {
    const disk = await openDisk(MemoryStore.from(buildQcow2().bytes), { formats: [qcow2], purpose: 'check' })
    const attempt = closing(disk, () => checkImage(qcow2, disk, { repair: 'leaks', report: () => {} }))
    expect(await kindOf(attempt)).toBe('denied')
  })
})
