/** Comparing what the engine says of an image with what qemu-img says, field by field. */

import { type DiskInfo, measureImage } from '@moraine/engine'
import { expect } from 'vitest'
import { checkFile, diskSha, formatOf, mapOf, withImage } from '../support/disk.ts'
import { guestSha, qemuCheck, qemuImg, qemuInfo, qemuMap } from '../support/qemu.ts'

/** `qemu-img info` in the engine's terms. */
function fromQemuInfo(info: Record<string, unknown>): Record<string, unknown> {
  const specific = info['format-specific'] as { data: Record<string, unknown> } | undefined
  const snapshots = (info.snapshots ?? []) as Record<string, number | string>[]
  return {
    format: info.format,
    virtualSize: info['virtual-size'],
    clusterSize: info['cluster-size'],
    dirty: info['dirty-flag'],
    encrypted: info.encrypted,
    backing:
      info['backing-filename'] === undefined
        ? undefined
        : { name: info['backing-filename'], format: info['backing-filename-format'] },
    snapshots: snapshots.map((snapshot) => ({
      id: snapshot.id,
      name: snapshot.name,
      vmStateSize: snapshot['vm-state-size'],
      dateSeconds: snapshot['date-sec'],
      dateNanoseconds: snapshot['date-nsec'],
      vmClock: Number(snapshot['vm-clock-sec']) * 1e9 + Number(snapshot['vm-clock-nsec']),
      icount: snapshot.icount,
    })),
    details: specific?.data,
  }
}

function fromInfo(info: DiskInfo): Record<string, unknown> {
  return {
    format: info.format,
    virtualSize: info.virtualSize,
    clusterSize: info.clusterSize,
    dirty: info.dirty,
    encrypted: info.encrypted,
    backing: info.backing,
    snapshots: info.snapshots.map((snapshot) => ({
      id: snapshot.id,
      name: snapshot.name,
      vmStateSize: snapshot.vmStateSize,
      dateSeconds: snapshot.dateSeconds,
      dateNanoseconds: snapshot.dateNanoseconds,
      vmClock: Number(snapshot.vmClockNanoseconds),
      icount: snapshot.icount === undefined ? undefined : Number(snapshot.icount),
    })),
    details: info.details?.data,
  }
}

/** The facts of an image agree. */
export async function expectSameInfo(file: string): Promise<void> {
  const ours = await withImage(file, 'qcow2', async (disk) => disk.info())
  expect(fromInfo(ours), `info of ${file}`).toEqual(fromQemuInfo(await qemuInfo(file, 'qcow2')))
}

/** The map of an image agrees, entry by entry. */
export async function expectSameMap(file: string): Promise<void> {
  // Of an empty disk qemu-img prints one entry of no length.
  const theirs = (await qemuMap(file, 'qcow2')).filter(({ length }) => length > 0)
  const ours = await withImage(file, 'qcow2', mapOf)
  // qemu-img names a file only where it is another than the image itself.
  const named = theirs.map((entry) => entry.filename !== undefined)
  expect(
    ours.map(({ filename, ...entry }, i) => (named[i] === true ? { ...entry, filename } : entry)),
    `map of ${file}`,
  ).toEqual(theirs)
}

/** The check of an image gives the same counters. */
export async function expectSameCheck(file: string): Promise<void> {
  const theirs = await qemuCheck(file, 'qcow2')
  const { result, lines } = await checkFile(file, 'qcow2')
  expect(
    {
      checkErrors: result.checkErrors,
      corruptions: result.corruptions,
      leaks: result.leaks,
      imageEndOffset: result.imageEndOffset,
      totalClusters: result.totalClusters ?? 0,
      allocatedClusters: result.allocatedClusters ?? 0,
      fragmentedClusters: result.fragmentedClusters ?? 0,
      compressedClusters: result.compressedClusters ?? 0,
    },
    `check of ${file}; QEMU: ${theirs?.stderr.slice(0, 500)}; ours: ${lines.slice(0, 5).join('; ')}`,
  ).toEqual({
    checkErrors: theirs?.['check-errors'],
    corruptions: theirs?.corruptions ?? 0,
    leaks: theirs?.leaks ?? 0,
    imageEndOffset: theirs?.['image-end-offset'],
    totalClusters: theirs?.['total-clusters'] ?? 0,
    allocatedClusters: theirs?.['allocated-clusters'] ?? 0,
    fragmentedClusters: theirs?.['fragmented-clusters'] ?? 0,
    compressedClusters: theirs?.['compressed-clusters'] ?? 0,
  })
}

/** The guest's bytes agree, whatever the size of the reads. */
export async function expectSameGuest(file: string, chunks: readonly number[] = [1 << 20]): Promise<void> {
  const theirs = await guestSha(file, 'qcow2')
  for (const chunk of chunks) {
    const ours = await withImage(file, 'qcow2', (disk) => diskSha(disk, chunk))
    expect(ours, `guest bytes of ${file}, read by ${chunk}`).toBe(theirs)
  }
}

/** Both need the same bytes for a copy of it as qcow2. */
export async function expectSameMeasure(file: string): Promise<void> {
  const theirs = JSON.parse(
    await qemuImg('measure', '-U', '-f', 'qcow2', '-O', 'qcow2', '--output=json', file),
  ) as Record<string, number>
  const ours = await withImage(file, 'qcow2', (disk) =>
    measureImage(formatOf('qcow2'), { size: disk.size, source: disk, options: {} }),
  )
  expect({ ...ours }, `measure of ${file}`).toEqual({
    required: theirs.required,
    fullyAllocated: theirs['fully-allocated'],
    ...(theirs.bitmaps === undefined ? {} : { bitmaps: theirs.bitmaps }),
  })
}

/** Everything that can be asked agrees. */
export async function expectSameAll(file: string): Promise<void> {
  await expectSameInfo(file)
  await expectSameGuest(file)
  await expectSameMap(file)
  await expectSameCheck(file)
  await expectSameMeasure(file)
}
