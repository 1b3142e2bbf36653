/** Opening a LUKS container of version 2, which is only read. */
import { roundDown } from '../../bytes/integers.ts'
import { type ByteSource, type Disk, MoraineError } from '../../core/index.ts'
import { luksVersion } from '../../crypt/luks-header.ts'
import { readLuks2Header } from '../../crypt/luks2-header.ts'
import { unlockLuks2 } from '../../crypt/luks2-keys.ts'
import type { OpenContext } from '../format.ts'
import { cryptoOf, passwordOf } from '../key-secret.ts'
import { LuksDisk, type LuksImage } from './disk.ts'

/** Opens a container; for its facts alone (purpose `info`) without a key.
 *  @throws MoraineError as the header says; `denied` for a wrong password, none, or when it is to be written. */
export async function openLuks2(file: ByteSource, context: OpenContext): Promise<Disk> {
  const place = { path: file.name, format: 'luks2' }
  const head = new Uint8Array(Math.min(8, file.size))
  await file.read(0, head)
  if (luksVersion(head) !== 2) {
    const rule = 'LUKS version 2'
    throw new MoraineError('not-this-format', 'Volume is not in LUKS format', { ...place, field: 'magic', rule })
  }
  if (context.mode === 'write') {
    throw new MoraineError('unsupported', 'LUKS containers of version 2 are only read', { ...place, field: 'mode' })
  }
  const header = await readLuks2Header(file, context.crypto, place)
  const image: LuksImage = {
    format: 'luks2',
    file,
    payloadOffset: header.payloadOffset,
    payloadLength: header.payloadLength,
    cipher: undefined,
    firstSector: 0,
    details: header.details,
  }
  if (context.purpose === 'info') return new LuksDisk(image)
  const password = passwordOf(context, 'key-secret', place)
  const payload = await unlockLuks2(cryptoOf(context, place), file, header, password, context.limits, place)
  const there = Math.max(0, file.size - header.payloadOffset)
  const length = header.payloadLength ?? there
  if (length > context.limits.virtualSize) {
    const rule = `at most ${context.limits.virtualSize} bytes`
    throw new MoraineError('limit', 'Image is too big', { ...place, field: 'size', value: length, rule })
  }
  image.payloadLength = roundDown(length, payload.cipher.sectorBytes)
  return new LuksDisk(Object.assign(image, payload))
}
