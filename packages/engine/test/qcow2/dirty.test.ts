/** Images that were not closed cleanly: repaired when they are opened for writing, and only then. */
import { readFileSync } from 'node:fs'
import { MemoryStore, type OpenOptions, openDisk, qcow2 } from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { closing, diskSha, kindOf, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { checkStore } from '../support/memory-image.ts'
import { describeWith } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Image } from '../support/qcow2-image.ts'
import { guestOf, type Qcow2Spec } from '../support/qcow2-spec.ts'
import { expectClean, guestSha, qemuImg, qemuIoKilled } from '../support/qemu.ts'

const folder = temporaryFolder()

const spec: Qcow2Spec = {
  clusterBits: 12,
  size: 65_536n,
  clusters: {
    0: { kind: 'data', bytes: 0x11 },
    1: { kind: 'compressed', bytes: 0x22 },
    5: { kind: 'data', bytes: 0x55 },
  },
  snapshots: [{ id: '1', name: 'short', clusters: 'share', extraSize: 8 }],
  incompatible: 1n,
}

function damaged(): Qcow2Image {
  const image = buildQcow2(spec)
  image.setCount(Number(image.getU64(image.l2At(5))) / 4096, 0n)
  return image
}

async function open(store: MemoryStore, options: Partial<OpenOptions> = {}): Promise<string[]> {
  const warnings: string[] = []
  const warn = (message: string): unknown => warnings.push(message)
  const disk = await openDisk(store, { formats: [qcow2], codecs: nodeCodecs, warn, ...options })
  await closing(disk, async () => {
    if (options.purpose !== undefined && options.purpose !== 'use') return
    const bytes = new Uint8Array(disk.size)
    await disk.read(0, bytes)
    expect(Buffer.compare(bytes, guestOf(spec)), 'the guest reads what it wrote').toBe(0)
    if (options.mode === 'write') expect(disk.info().dirty).toBe(false)
  })
  return warnings
}

describe('a dirty image', () => {
  it('is repaired when it is opened for writing', async () => {
    const store = MemoryStore.from(damaged().bytes)
    const warnings = await open(store, { mode: 'write' })
    expect(warnings.join('\n')).toMatch(/was not closed cleanly; repaired \d+ leaked clusters and [1-9]\d* corruptions/)
    const { result, lines } = await checkStore(store, 'none')
    expect([result.corruptions, result.leaks, lines]).toEqual([0, 0, []])
    await closing(await openDisk(store, { formats: [qcow2] }), async (disk) => {
      expect(disk.info().snapshots.map(({ name }) => name)).toEqual(['short'])
    })
  })

  it('is cleaned without a word when nothing is wrong with it', async () => {
    const image = buildQcow2({ ...spec, snapshots: [] })
    const store = MemoryStore.from(image.bytes)
    expect(await open(store, { mode: 'write' })).toEqual([])
    expect(store.bytes()[79]).toBe(0)
  })

  it.each([
    ['read', 'use'],
    ['read', 'info'],
    ['read', 'check'],
    ['write', 'check'],
  ] as const)('stays as it is when it is opened for %s with purpose %s', async (mode, purpose) => {
    const { bytes } = damaged()
    const store = MemoryStore.from(bytes.slice())
    expect(await open(store, { mode, purpose })).toEqual([])
    expect(Buffer.compare(store.bytes(), bytes)).toBe(0)
  })

  it('that cannot be repaired is refused, and keeps its mark', async () => {
    const image = buildQcow2({ ...spec, snapshots: [] })
    // The L2 table of another L1 entry is the L1 table itself, whose flags then cannot be corrected without harm.
    image
      .set('size', 4n << 20n)
      .set('l1_size', 2n)
      .setU64(image.at.l1 + 8, BigInt(image.at.l1))
    const store = MemoryStore.from(image.bytes)
    expect(await kindOf(openDisk(store, { formats: [qcow2], mode: 'write' }))).toBe('corrupt')
    expect((store.bytes()[79] ?? 0) & 1).toBe(1)
  })
})

describeWith(['qemu-img', 'qemu-io'], 'an image with lazy refcounts whose writer was killed', () => {
  it('is repaired by the next writer', async () => {
    const file = folder.file('lazy.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on,cluster_size=4k', file, '4M')
    await qemuIoKilled(file, 'qcow2', 'write -P 7 0 300k', 'write -P 8 1M 64k')
    expect((readFileSync(file)[79] ?? 0) & 1).toBe(1)
    const guest = await guestSha(file, 'qcow2')
    expect(await withImage(file, 'qcow2', (disk) => diskSha(disk, 1 << 20))).toBe(guest)
    await withWritable(file, 'qcow2', async (disk) => expect(await diskSha(disk, 1 << 20)).toBe(guest))
    await expectClean(file, 'qcow2')
    expect(await guestSha(file, 'qcow2')).toBe(guest)
  })
})
