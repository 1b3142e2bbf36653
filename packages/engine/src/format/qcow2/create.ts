/** Creating a qcow2 image. The layout is that of `qemu-img create` 7.2: header, refcount table, one block, L1 table, then what preallocation adds. */

import { setU64be, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, closedGate, defaultLimits, isMoraineError, MoraineError } from '../../core/index.ts'
import type { CreatePlan, CreateTarget, OpenContext } from '../format.ts'
import { encodeHeader } from './header.ts'
import { openImage } from './image.ts'
import { autoclear, compatible, type Header, headerLengthV2, headerLengthWritten, incompatible } from './layout.ts'
import { planOptions, type Qcow2Plan } from './options.ts'
import { setCountAt } from './refcount-reader.ts'
import { WritableQcow2Disk } from './writable-disk.ts'

/** Writes a new, empty image into the target's store, which stays open.
 *  @throws MoraineError `invalid` for options that do not fit, `limit` for sizes that the tables cannot map. */
export async function createQcow2(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const options = planOptions(plan.options, plan.backing !== undefined)
  const { store } = target
  const header = newHeader(options)
  const clusterSize = 2 ** options.clusterBits
  await clearStore(store)
  const dataStore = options.dataFile === undefined ? undefined : await target.sibling(options.dataFile, 'data-file')
  try {
    await writeSkeleton(store, header, options, clusterSize)
    const image = await openImage(store, creationContext(store, dataStore))
    const disk = await WritableQcow2Disk.openForWriting(image, store, undefined)
    if (options.dataFile !== undefined) {
      image.header.dataFileName = storedName(options.dataFile)
      if (options.dataFileRaw) image.header.autoclearFeatures |= autoclear.rawDataFile
    }
    await disk.writer.writeHeader()
    const size = Math.ceil(plan.size / 512) * 512
    await disk.resize(size, options.preallocation).catch(refuseSize)
    if (plan.backing !== undefined) {
      image.header.backingFile = plan.backing.name
      image.header.backingFormat = plan.backing.format
      await disk.writer.writeHeader()
    }
    if (options.encryption !== undefined) {
      const { encryptNew } = await import('./crypt.ts')
      await encryptNew(disk, target, options.encryption, plan.options)
      await disk.writer.writeHeader()
    }
    await disk.finish()
    await store.flush()
  } finally {
    await dataStore?.close()
  }
}

/** Says, as QEMU does, at which step of the creation the size was too large. */
function refuseSize(error: unknown): never {
  throw isMoraineError(error, 'limit')
    ? new MoraineError(error.kind, `Could not resize image: ${error.reason}`, error)
    : error
}

/** QEMU stores what the file is called once its protocol is known. */
function storedName(name: string): string {
  return name.startsWith('file:') ? name.slice('file:'.length) : name
}

function newHeader(options: Qcow2Plan): Header {
  const clusterSize = 2 ** options.clusterBits
  return {
    version: options.version,
    backingFileOffset: 0,
    backingFileSize: 0,
    clusterBits: options.clusterBits,
    size: 0,
    cryptMethod: 0,
    l1Size: 0,
    l1TableOffset: 0,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatibleFeatures:
      (options.dataFile === undefined ? 0n : incompatible.dataFile) |
      (options.compression === 'zlib' ? 0n : incompatible.compression) |
      (options.extendedL2 ? incompatible.extendedL2 : 0n),
    compatibleFeatures: options.lazyRefcounts ? compatible.lazyRefcounts : 0n,
    autoclearFeatures: 0n,
    refcountOrder: options.refcountOrder,
    headerLength: options.version === 2 ? headerLengthV2 : headerLengthWritten,
    compressionType: options.compression === 'zstd' ? 1 : 0,
    unknownTail: new Uint8Array(),
    backingFile: undefined,
    backingFormat: undefined,
    // The name goes into the file with the next header write; until then the data file is known by hand.
    dataFileName: options.dataFile === undefined ? undefined : storedName(options.dataFile),
    crypto: undefined,
    bitmaps: undefined,
    names: new Map(),
    unknownExtensions: [],
  }
}

async function clearStore(store: ByteStore): Promise<void> {
  if (store.kind !== 'device' && store.size > 0) await store.resize(0)
}

/** Header, refcount table and the first block, which counts the three of them. */
async function writeSkeleton(store: ByteStore, header: Header, options: Qcow2Plan, clusterSize: number): Promise<void> {
  const bytes = new Uint8Array(3 * clusterSize)
  bytes.set(encodeHeader(header, store.name))
  setU64be(viewOf(bytes), clusterSize, 2 * clusterSize)
  const block = bytes.subarray(2 * clusterSize)
  for (let cluster = 0; cluster < 3; cluster++) setCountAt(block, viewOf(block), options.refcountOrder, cluster, 1)
  // Counts before the header: cut short, there is no image yet.
  await store.write(clusterSize, bytes.subarray(clusterSize))
  await store.flush()
  await store.write(0, bytes.subarray(0, clusterSize))
}

function creationContext(store: ByteStore, dataStore: ByteStore | undefined): OpenContext {
  const refuse = () =>
    Promise.reject(new MoraineError('denied', 'a new image opens no other file', { path: store.name }))
  return {
    mode: 'write',
    purpose: 'use',
    parents: false,
    gate: closedGate,
    limits: defaultLimits,
    codecs: {},
    warn: () => {},
    openParent: refuse,
    openFile: () => (dataStore === undefined ? refuse() : Promise.resolve(dataStore)),
  }
}
