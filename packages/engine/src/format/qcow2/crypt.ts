/** Encryption inside a qcow2 image: a LUKS header in clusters of its own, or the AES of old; what reads and writes guest clusters through it. Source: QEMU's docs/interop/qcow2.txt,
 *  "Data encryption", and the behaviour of QEMU 7.2. */
import { randomBytes } from '#platform'
import type { DetailValue, Disk, ErrorPlace } from '../../core/index.ts'
import { luksDetails } from '../../crypt/luks-header.ts'
import { type LuksPlace, readLuksHeader, type UnlockedLuks, unlockLuks } from '../../crypt/luks-keys.ts'
import { type SectorCipher, sectorCipher } from '../../crypt/sector-cipher.ts'
import type { CreateTarget, KeyChange, KeyChangeContext } from '../format.ts'
import { cryptoOf, passwordOf, secretOf } from '../key-secret.ts'
import { legacyCipher } from '../legacy-aes.ts'
import { amendLuks } from '../luks/amend.ts'
import { makeLuks } from '../luks/cipher-options.ts'
import type { OptionValues } from '../options.ts'
import { Qcow2Disk } from './disk.ts'
import { fault, type Qcow2Image } from './image.ts'
import type { WritableQcow2Disk } from './writable-disk.ts'

/** How guest clusters are encrypted. */
export interface ClusterCrypt {
  cipher: SectorCipher
  /** Sectors are numbered by where they lie in the file, not by where the guest sees them. */
  byHost: boolean
  /** The LUKS header and its key. */
  luks?: UnlockedLuks | undefined
}

const methods = { 1: 'aes', 2: 'luks' } as const

/** The option that names the password. */
const keyOption = 'encrypt.key-secret'

/** What `info` shows of the encryption, and with a key (all purposes but `info` and a check without one) what decrypts.
 *  @throws MoraineError `denied` for a wrong password or none, `missing` for a secret that is not there, `invalid` where header and caller disagree. */
export async function openCrypt(
  image: Qcow2Image,
): Promise<{ details: Record<string, DetailValue> | undefined; crypt: ClusterCrypt | undefined }> {
  const { header, context } = image
  const method = methods[header.cryptMethod as 1 | 2]
  const asked = context.encryption?.format
  if (method === undefined) {
    if (asked === undefined) return { details: undefined, crypt: undefined }
    throw fault(image, 'invalid', `No encryption in image header, but options specified format '${asked}'`, 'encrypt')
  }
  if (asked !== undefined && asked !== method) {
    const reason = `Header reported '${method}' encryption format but options specify '${asked}'`
    throw fault(image, 'invalid', reason, 'encrypt.format', { value: asked })
  }
  const place: ErrorPlace = { path: image.file.name, format: 'qcow2' }
  // A check looks at metadata, none of which is encrypted.
  const checked = context.purpose === 'check' && context.encryption?.keySecret !== undefined
  const locked = context.purpose === 'use' || checked
  const password = locked ? passwordOf(context, keyOption, place) : undefined
  if (method === 'aes') {
    const crypt =
      password === undefined
        ? undefined
        : { cipher: legacyCipher(cryptoOf(context, place), password, place), byHost: false }
    return { details: { format: 'aes' }, crypt }
  }
  const at = luksPlace(image)
  const luks = await readLuksHeader(at)
  const details = luksDetails(luks, { format: 'luks' })
  if (password === undefined) return { details, crypt: undefined }
  const library = cryptoOf(context, place)
  const key = await unlockLuks(library, at, luks, password, context.limits)
  const cipher = sectorCipher(library, luks.spec, key, 512, place)
  return { details, crypt: { cipher, byHost: true, luks: { at, header: luks, masterKey: key } } }
}

/** Where the LUKS header of an image lies.
 *  @throws MoraineError `invalid` where that is no place for one. */
export function luksPlace(image: Qcow2Image): LuksPlace {
  const { crypto } = image.header
  const offset = crypto?.offset ?? 0
  const { clusterSize } = image.geometry
  if (offset % clusterSize !== 0) {
    const reason = `Encryption header offset '${offset}' is not a multiple of cluster size '${clusterSize}'`
    throw fault(image, 'invalid', reason, 'crypto header offset', { value: offset })
  }
  return { file: image.file, offset, place: { path: image.file.name, format: 'qcow2' } }
}

/** Changes the key slots of an image that was opened for writing.
 *  @throws MoraineError `invalid` for an image without any, and as `amendLuks`. */
export async function amendQcow2Keys(disk: Disk, change: KeyChange, context: KeyChangeContext): Promise<void> {
  if (!(disk instanceof Qcow2Disk)) throw new TypeError('not a qcow2 disk')
  const { image } = disk
  if (image.header.cryptMethod === 0) {
    throw fault(image, 'invalid', "Can't amend encryption options - encryption not present", 'crypt_method')
  }
  if (image.header.cryptMethod !== 2) {
    throw fault(image, 'unsupported', 'Only LUKS encryption options can be amended', 'crypt_method')
  }
  if (image.crypt?.luks === undefined) {
    throw fault(image, 'denied', 'the image was not opened with its key', 'crypt_method')
  }
  await amendLuks(image.crypt.luks, change, context)
}

/** Gives a new image that has its size, and no data yet, its encryption; the caller writes the header.
 *  @throws MoraineError as `makeLuks` and `secretOf`. */
export async function encryptNew(
  disk: WritableQcow2Disk,
  target: CreateTarget,
  format: 'aes' | 'luks',
  options: OptionValues,
): Promise<void> {
  const { header, file } = disk.image
  const place = { path: file.name, format: 'qcow2' }
  if (format === 'aes') {
    secretOf(target.secrets, options[keyOption] as string | undefined, keyOption, place)
    header.cryptMethod = 1
    return
  }
  const { header: luks, area } = await makeLuks(target, options, 'encrypt.', place, randomBytes)
  const { store, refcounts } = disk.writer
  const length = luks.payloadSector * 512
  const offset = await refcounts.allocate(length)
  const end = offset + Math.ceil(length / disk.image.geometry.clusterSize) * disk.image.geometry.clusterSize
  if (store.kind !== 'device' && store.size < end) await store.resize(end)
  await store.zero(offset, end - offset, 'allocate')
  await store.write(offset, area)
  header.cryptMethod = 2
  header.crypto = { offset, length }
}
