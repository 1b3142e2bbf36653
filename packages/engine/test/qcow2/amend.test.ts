/** Changing the kind of an image: what only a snapshot holds counts, whatever the names of snapshots are. (The command's tests compare with qemu-img.) */
import { MemoryStore, qcow2 } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing } from '../support/disk.ts'
import { openStoreForWriting } from '../support/memory-image.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Clusters } from '../support/qcow2-spec.ts'

const change = { options: { compat: '0.10' } }

describe('a downgrade of an image with snapshots of one id', () => {
  it.each<[string, Clusters, RegExp]>([
    [
      'packed clusters',
      { 0: { kind: 'compressed', bytes: 7 } },
      /zstd compression type and existing compressed clusters/,
    ],
    ['zero clusters', { 0: { kind: 'zero' } }, /internal snapshots and zero clusters/],
  ])('is refused for %s that only the second has', async (_name, clusters, reason) => {
    const { bytes } = buildQcow2({
      compression: 'zstd',
      snapshots: [
        { id: '1', name: 'a', clusters: {} },
        { id: '1', name: '1', clusters },
      ],
    })
    await closing(await openStoreForWriting(MemoryStore.from(bytes, 'image.qcow2')), async (disk) => {
      await expect(qcow2.amend?.(disk, change)).rejects.toMatchObject({ message: expect.stringMatching(reason) })
    })
  })
})
