/** qcow2 images on stores in memory. */
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
  qcow2,
  type WritableDisk,
} from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { closing, optionsOf } from './disk.ts'

const base = { formats: allFormats, format: 'qcow2', codecs: nodeCodecs }

/** Creates an image in `store`, with options written as for `-o`. */
export async function createInMemory<S extends ByteStore = MemoryStore>(
  size: number,
  options: string,
  store?: S,
): Promise<S> {
  const target = store ?? (new MemoryStore({ name: 'image.qcow2' }) as ByteStore as S)
  const sibling = (): Promise<ByteStore> => Promise.reject(new Error('no second file in memory'))
  await createImage({ store: target, sibling }, qcow2, { size: BigInt(size), options: optionsOf('qcow2', options) })
  return target
}

/** Opens an image for reading. */
export function openStore(store: ByteSource, purpose?: OpenOptions['purpose']): Promise<Disk> {
  return openDisk(store, { ...base, purpose })
}

/** Opens an image for writing. */
export async function openStoreForWriting(store: ByteStore, purpose?: OpenOptions['purpose']): Promise<WritableDisk> {
  const disk = await openDisk(store, { ...base, mode: 'write', purpose })
  if (!isWritable(disk)) throw new Error('a disk opened for writing cannot be written')
  return disk
}

/** Checks or repairs an image. */
export async function checkStore(
  store: ByteStore,
  repair: 'none' | 'leaks' | 'all',
): Promise<{ result: CheckResult; lines: string[] }> {
  const lines: string[] = []
  const opening = repair === 'none' ? openStore(store, 'check') : openStoreForWriting(store, 'check')
  const result = await closing(await opening, (disk) =>
    checkImage(qcow2, disk, { repair, report: (line) => lines.push(line) }),
  )
  return { result, lines }
}
