/** What the suites for formats of plain blocks (VDI, VHD) share: the format under test, its images in memory, comparing with QEMU. */
import {
  allFormats,
  type ByteSource,
  type ByteStore,
  type CheckResult,
  checkImage,
  createImage,
  type Disk,
  isWritable,
  MemoryStore,
  type OpenOptions,
  openDisk,
  type WritableDisk,
} from '@moraine/engine'
import { expect } from 'vitest'
import { checkFile, closing, diskSha, formatOf, mapOf, optionsOf, withImage } from './disk.ts'
import { guestSha, qemuCheck, qemuInfo, qemuMap } from './qemu.ts'

/** A format and the images of it that the suites make. */
export interface Subject {
  /** Our name. */
  format: string
  /** QEMU's. */
  qemu: string
  /** Kinds of images: options as for `-o`, and a virtual size in bytes. `ownLayout`: QEMU lays such images out in another way. */
  kinds: readonly { options: string; size: number; ownLayout?: true }[]
  /** Findings of a check that a power cut may leave, as they cost nothing. */
  harmless?: RegExp
  /** A repair cannot give back space in the middle of the file. */
  leaksStay?: true
  /** Whether QEMU checks it. */
  qemuChecks: boolean
  /** False where QEMU cannot tell what lies where: all is data to it. */
  qemuMaps?: false
}

/** Creates an image in memory; what QEMU rounds up is. */
export async function createIn<S extends ByteStore = MemoryStore>(
  { format }: Subject,
  kind: { options: string; size: number },
  store?: S,
): Promise<S> {
  const target = store ?? (new MemoryStore({ name: `image.${format}` }) as ByteStore as S)
  const sibling = (): Promise<ByteStore> => Promise.reject(new Error('no second file in memory'))
  const options = optionsOf(format, kind.options)
  await createImage({ store: target, sibling }, formatOf(format), { size: BigInt(kind.size), options })
  return target
}

/** Opens an image for reading. */
export function openIn({ format }: Subject, store: ByteSource, purpose?: OpenOptions['purpose']): Promise<Disk> {
  return openDisk(store, { formats: allFormats, format, purpose })
}

/** Opens an image for writing. */
export async function openForWritingIn(
  { format }: Subject,
  store: ByteStore,
  purpose?: OpenOptions['purpose'],
): Promise<WritableDisk> {
  const disk = await openDisk(store, { formats: allFormats, format, mode: 'write', purpose })
  if (!isWritable(disk)) throw new Error('a disk opened for writing cannot be written')
  return disk
}

/** Checks or repairs an image. */
export async function checkIn(
  subject: Subject,
  store: ByteStore,
  repair: 'none' | 'all',
): Promise<{ result: CheckResult; lines: string[] }> {
  const lines: string[] = []
  const opening = repair === 'none' ? openIn(subject, store, 'check') : openForWritingIn(subject, store, 'check')
  const result = await closing(await opening, (disk) =>
    checkImage(formatOf(subject.format), disk, { repair, report: (line) => lines.push(line) }),
  )
  return { result, lines }
}

/** All of the guest's bytes. */
export async function wholeOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

/** Facts, map, check and bytes of an image are those that QEMU tells. */
export async function expectSameAsQemu({ format, qemu, qemuChecks, qemuMaps }: Subject, file: string): Promise<void> {
  const info = await withImage(file, format, async (disk) => disk.info())
  const theirs = await qemuInfo(file, qemu)
  expect({ size: info.virtualSize, cluster: info.clusterSize }, `info of ${file}`).toEqual({
    size: theirs['virtual-size'],
    cluster: theirs['cluster-size'],
  })
  if (qemuMaps !== false) {
    const map = (await qemuMap(file, qemu)).filter(({ length }) => length > 0)
    const ours = await withImage(file, format, mapOf)
    expect(
      ours.map(({ filename: _name, ...entry }) => entry),
      `map of ${file}`,
    ).toEqual(map)
  }
  expect(await withImage(file, format, (disk) => diskSha(disk)), `guest bytes of ${file}`).toBe(
    await guestSha(file, qemu),
  )
  if (!qemuChecks) return
  const check = await qemuCheck(file, qemu)
  const { result, lines } = await checkFile(file, format)
  expect([result.corruptions, result.leaks], lines.join('; ')).toEqual([check?.corruptions ?? 0, check?.leaks ?? 0])
}
