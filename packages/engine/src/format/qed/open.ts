/** Opening a QED image, with the disk under it. One that was not closed is checked and repaired first, where it is to be written. */
import { decodeName } from '../../bytes/name-text.ts'
import {
  type ByteSource,
  type ByteStore,
  type Disk,
  isStore,
  readPadded,
  retelling,
  type WritableDisk,
} from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { imageOf, QedDisk, type QedImage } from './disk.ts'
import { encodeHeader, feature, headerBytes, parseHeader, type QedHeader, qedFault } from './layout.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError as the header says; `denied` when the source cannot be written and shall be. */
export async function openQed(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const write = context.mode === 'write'
  if (write && !isStore(file)) throw qedFault(file.name, 'denied', 'the source cannot be written', {})
  const bytes = new Uint8Array(headerBytes)
  await retelling(
    () => 'Failed to read QED header',
    () => readPadded(file, 0, bytes),
  )
  const header = parseHeader(bytes, file.size, file.name)
  const image = imageOf(file, header, await readBackingName(file, header), context)
  if (write && isStore(file)) await prepare(image, file, context)
  const backing = image.backing ?? (context.givesBacking === true ? { name: '', role: 'backing' as const } : undefined)
  const parent = context.parents && backing !== undefined ? await context.openParent(backing) : undefined
  if (!write || !isStore(file)) return new QedDisk(image, parent)
  const { WritableQedDisk } = await import('./writable-disk.ts')
  return new WritableQedDisk(image, file, parent)
}

/** What the specification asks of a writer before it writes: unknown bits that say so are cleared, an unclosed image is repaired. */
async function prepare(image: QedImage, store: ByteStore, context: OpenContext): Promise<void> {
  const { header } = image
  if (header.autoclearFeatures !== 0n) {
    header.autoclearFeatures = 0n
    await store.write(0, encodeHeader(header))
    await store.flush()
  }
  if ((header.features & feature.needCheck) === 0 || context.purpose === 'check') return
  const { repairUnclosed } = await import('./check.ts')
  await repairUnclosed(image, store)
}

async function readBackingName(file: ByteSource, header: QedHeader): Promise<QedImage['backing']> {
  if ((header.features & feature.backing) === 0 || header.backingLength === 0) return undefined
  const bytes = new Uint8Array(header.backingLength)
  await readPadded(file, header.backingOffset, bytes)
  const end = bytes.indexOf(0)
  const name = decodeName(end < 0 ? bytes : bytes.subarray(0, end))
  if (name === '') return undefined
  const format = (header.features & feature.rawBacking) === 0 ? undefined : 'raw'
  return { name, format, role: 'backing' }
}
