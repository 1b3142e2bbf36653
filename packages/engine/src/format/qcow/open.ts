/** Opening a qcow image, with the disk under it. */
import { decodeName } from '../../bytes/name-text.ts'
import { type ByteSource, type Disk, isStore, readPadded, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { cryptoOf, passwordOf } from '../key-secret.ts'
import { imageOf, QcowDisk, type QcowImage } from './disk.ts'
import { headerBytes, parseHeader, type QcowHeader, qcowFault } from './layout.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError as the header says; `denied` for encrypted images that are to be used without a key, `denied` when the source cannot be written and shall be. */
export async function openQcow(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const write = context.mode === 'write'
  if (write && !isStore(file)) throw qcowFault(file.name, 'denied', 'the source cannot be written', {})
  const bytes = new Uint8Array(headerBytes)
  await readPadded(file, 0, bytes)
  const header = parseHeader(bytes, file.name)
  const image = imageOf(file, header, await readBackingName(file, header), context)
  await openCipher(image)
  const name = image.backing ?? (context.givesBacking === true ? '' : undefined)
  // The format does not stand in the image, so that QEMU probes it.
  const parent = context.parents && name !== undefined ? await context.openParent({ name, role: 'backing' }) : undefined
  if (!write || !isStore(file)) return new QcowDisk(image, parent)
  const { WritableQcowDisk } = await import('./writable-disk.ts')
  return new WritableQcowDisk(image, file, parent)
}

/** Sets what decrypts, with a key.
 *  @throws MoraineError `denied` for an image that is to be used without one, `invalid` where header and caller disagree. */
async function openCipher(image: QcowImage): Promise<void> {
  const { file, header, context } = image
  const method = header.cryptMethod === 0 ? undefined : 'aes'
  const asked = context.encryption?.format
  if (asked !== undefined && asked !== method) {
    const reason =
      method === undefined
        ? `No encryption in image header, but options specified format '${asked}'`
        : `Header reported '${method}' encryption format but options specify '${asked}'`
    throw qcowFault(file.name, 'invalid', reason, { field: 'encrypt.format', value: asked })
  }
  // Nothing of what a check looks at is encrypted.
  const checked = context.purpose === 'check' && context.encryption?.keySecret !== undefined
  if (method === undefined || (context.purpose !== 'use' && !checked)) return
  const place = { path: file.name, format: 'qcow' }
  const password = passwordOf(context, 'encrypt.key-secret', place)
  const { legacyCipher } = await import('../legacy-aes.ts')
  image.cipher = legacyCipher(cryptoOf(context, place), password, place)
}

async function readBackingName(file: ByteSource, header: QcowHeader): Promise<string | undefined> {
  const { backingOffset, backingLength } = header
  if (backingOffset === 0 || backingLength === 0) return undefined
  if (backingOffset + backingLength > file.size) {
    throw qcowFault(file.name, 'corrupt', 'the file ends within the name of the backing file', {
      field: 'backing_file_offset',
      value: backingOffset,
      rule: `a name of ${backingLength} bytes in a file of ${file.size}`,
    })
  }
  const bytes = new Uint8Array(backingLength)
  await file.read(backingOffset, bytes)
  const end = bytes.indexOf(0)
  const name = decodeName(end < 0 ? bytes : bytes.subarray(0, end))
  return name === '' ? undefined : name
}
