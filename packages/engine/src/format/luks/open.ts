/** Opening a LUKS container of version 1. */
import { type ByteSource, type Disk, isStore, MoraineError, type WritableDisk } from '../../core/index.ts'
import { luksDetails } from '../../crypt/luks-header.ts'
import { readLuksHeader, unlockLuks } from '../../crypt/luks-keys.ts'
import { sectorCipher } from '../../crypt/sector-cipher.ts'
import type { KeyChange, KeyChangeContext, OpenContext } from '../format.ts'
import { cryptoOf, passwordOf } from '../key-secret.ts'
import { amendLuks } from './amend.ts'
import { LuksDisk, type LuksImage, WritableLuksDisk } from './disk.ts'

/** Changes the key slots of a container that was opened for writing.
 *  @throws MoraineError as `amendLuks`. */
export async function amendLuksKeys(disk: Disk, change: KeyChange, context: KeyChangeContext): Promise<void> {
  const unlocked = disk instanceof WritableLuksDisk ? disk.image.unlocked : undefined
  if (unlocked === undefined) {
    const place = { path: disk.name, format: 'luks', field: 'mode' }
    throw new MoraineError('denied', 'the container was not opened for writing with its key', place)
  }
  await amendLuks(unlocked, change, context)
}

/** Opens a container; for its facts alone (purpose `info`) without a key.
 *  @throws MoraineError as the header says; `denied` for a wrong password or none, `missing` for a secret that is not there. */
export async function openLuks(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const place = { path: file.name, format: 'luks' }
  const write = context.mode === 'write'
  if (write && !isStore(file)) throw new MoraineError('denied', 'the source cannot be written', place)
  const at = { file, offset: 0, place }
  // Asked before the header is judged, as in QEMU.
  const locked = context.purpose !== 'info' || write
  const password = locked ? passwordOf(context, 'key-secret', place) : undefined
  const header = await readLuksHeader(at)
  const payloadOffset = header.payloadSector * 512
  if (payloadOffset > file.size) {
    throw new MoraineError('invalid', 'Could not refresh total sector count: Input/output error', {
      ...place,
      field: 'payload-offset',
      value: payloadOffset,
      rule: `at most ${file.size}, the length of the file`,
    })
  }
  const image: LuksImage = {
    format: 'luks',
    file,
    payloadOffset,
    payloadLength: undefined,
    cipher: undefined,
    firstSector: 0,
    details: luksDetails(header),
  }
  if (password === undefined) return new LuksDisk(image)
  const library = cryptoOf(context, place)
  const key = await unlockLuks(library, at, header, password, context.limits)
  image.unlocked = { at, header, masterKey: key }
  image.cipher = sectorCipher(library, header.spec, key, 512, place)
  return write && isStore(file) ? new WritableLuksDisk(image, file) : new LuksDisk(image)
}
