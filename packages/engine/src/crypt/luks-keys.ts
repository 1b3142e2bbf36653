/** Key slots of LUKS version 1: what unlocks them, what is written when they are filled and emptied. Facts: LUKS1 On-Disk Format Specification 1.2.3, sections 3 and 4; words are those of QEMU 7.2. */
import {
  type ByteSource,
  type ByteStore,
  type CryptoLibrary,
  type ErrorPlace,
  type HashName,
  type Limits,
  MoraineError,
  readPadded,
} from '../core/index.ts'
import { mergeKey, splitKey } from './anti-forensic.ts'
import {
  digestBytes,
  encodeLuksHeader,
  type LuksHeader,
  luksHeaderBytes,
  materialBytes,
  parseLuksHeader,
  placesFor,
  slotCount,
  stripeCount,
} from './luks-header.ts'
import { type CipherSpec, hashOf, sectorCipher } from './sector-cipher.ts'

const sector = 512
/** Rounds of PBKDF2, at least. */
const leastRounds = 1000
const mostRounds = 0xffff_ffff

/** Where a container lies: in a file of its own from 0, in a qcow2 image at the place its header names. */
export interface LuksPlace {
  /** Holds the container. */
  file: ByteSource
  /** Byte offset of the header in `file`. */
  offset: number
  place: ErrorPlace
}

/** A container that was opened with a password. */
export interface UnlockedLuks {
  at: LuksPlace
  header: LuksHeader
  masterKey: Uint8Array
}

/** Reads a header.
 *  @throws MoraineError as `parseLuksHeader`. */
export async function readLuksHeader({ file, offset, place }: LuksPlace): Promise<LuksHeader> {
  const bytes = new Uint8Array(luksHeaderBytes)
  await readPadded(file, offset, bytes)
  return parseLuksHeader(bytes, place)
}

/** The master key, by a password.
 *  @throws MoraineError `denied` when it opens no slot, `limit` when trying would take too long, `unsupported`. */
export async function unlockLuks(
  library: CryptoLibrary,
  at: LuksPlace,
  header: LuksHeader,
  password: Uint8Array,
  limits: Limits,
): Promise<Uint8Array> {
  boundRounds(header, limits, at.place)
  for (let slot = 0; slot < slotCount; slot++) {
    const key = await openSlot(library, at, header, slot, password)
    if (key !== undefined) return key
  }
  throw new MoraineError('denied', 'Invalid password, cannot unlock any keyslot', { ...at.place, field: 'key-secret' })
}

function boundRounds(header: LuksHeader, limits: Limits, place: ErrorPlace): void {
  const active = header.slots.filter((slot) => slot.active)
  const rounds = active.reduce((sum, slot) => sum + slot.iterations + header.digestIterations, 0)
  if (rounds <= limits.keyRounds) return
  throw new MoraineError('limit', 'its key derivation would take too long', {
    ...place,
    field: 'iterations',
    value: rounds,
    rule: `at most ${limits.keyRounds} in all slots together`,
  })
}

/** The master key, if the password opens this slot. */
export async function openSlot(
  library: CryptoLibrary,
  at: LuksPlace,
  header: LuksHeader,
  index: number,
  password: Uint8Array,
): Promise<Uint8Array | undefined> {
  const slot = header.slots[index]
  if (slot === undefined || !slot.active) return undefined
  const { keyBytes, spec, hash } = header
  const digest = hashOf(library, hash, at.place)
  const key = await library.pbkdf2(hash, password, slot.salt, slot.iterations, keyBytes)
  const material = new Uint8Array(materialBytes(keyBytes))
  const start = at.offset + slot.keySector * sector
  if (start + material.length > at.file.size) {
    throw new MoraineError('corrupt', `the file ends within the key material of slot ${index}`, {
      ...at.place,
      field: 'key-material-offset',
      value: start,
      rule: `${material.length} bytes in a file of ${at.file.size}`,
    })
  }
  await at.file.read(start, material)
  sectorCipher(library, spec, key, sector, at.place).decrypt(0, material)
  const candidate = mergeKey(material, keyBytes, stripeCount, digest)
  const proof = await library.pbkdf2(hash, candidate, header.digestSalt, header.digestIterations, digestBytes)
  return proof.every((byte, i) => byte === header.digest[i]) ? candidate : undefined
}

/** What a new container shall be. */
export interface NewLuks {
  spec: CipherSpec
  hash: HashName
  /** Bytes of the master key: both halves with XTS. */
  keyBytes: number
  password: Uint8Array
  /** Milliseconds that opening it shall take. */
  iterTime: number
}

/** What makes salts and keys, `count` bytes at a time. */
export type Random = (count: number) => Uint8Array

/** A header with one password, and the bytes of its area up to where the payload begins, as far as they are not zeros. */
export async function newLuks(
  library: CryptoLibrary,
  wanted: NewLuks,
  random: Random,
  place: ErrorPlace,
): Promise<{ header: LuksHeader; masterKey: Uint8Array; area: Uint8Array }> {
  const { spec, hash, keyBytes } = wanted
  const masterKey = random(keyBytes)
  // What cannot be done is said before time is spent.
  sectorCipher(library, spec, masterKey, sector, place)
  hashOf(library, hash, place)
  const { keySectors, payloadSector } = placesFor(keyBytes)
  const digestSalt = random(32)
  const rate = await roundsPerSecond(library, hash, digestBytes)
  const digestIterations = roundsFor(rate / 8, wanted.iterTime, place)
  const header: LuksHeader = {
    spec,
    hash,
    payloadSector,
    keyBytes,
    digest: await library.pbkdf2(hash, masterKey, digestSalt, digestIterations, digestBytes),
    digestSalt,
    digestIterations,
    uuid: newUuid(random),
    slots: keySectors.map((keySector) => ({ active: false, iterations: 0, salt: new Uint8Array(32), keySector })),
  }
  const material = await fillSlot(library, header, 0, masterKey, wanted, random, place)
  const start = (keySectors[0] as number) * sector
  const area = new Uint8Array(start + material.length)
  area.set(encodeLuksHeader(header))
  area.set(material, start)
  return { header, masterKey, area }
}

function newUuid(random: Random): string {
  const bytes = random(16)
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Sets the fields of a slot; returns its key material, encrypted. */
async function fillSlot(
  library: CryptoLibrary,
  header: LuksHeader,
  index: number,
  masterKey: Uint8Array,
  { password, iterTime }: { password: Uint8Array; iterTime: number },
  random: Random,
  place: ErrorPlace,
): Promise<Uint8Array> {
  const slot = header.slots[index]
  if (slot === undefined) throw new RangeError('no such key slot')
  const { keyBytes, hash, spec } = header
  slot.salt = random(32)
  slot.iterations = roundsFor(await roundsPerSecond(library, hash, keyBytes), iterTime, place)
  slot.active = true
  const key = await library.pbkdf2(hash, password, slot.salt, slot.iterations, keyBytes)
  const material = new Uint8Array(materialBytes(keyBytes))
  material.set(splitKey(masterKey, stripeCount, hashOf(library, hash, place), random))
  return sectorCipher(library, spec, key, sector, place).encrypt(0, material)
}

/** How many rounds of PBKDF2 this machine does in a second. */
async function roundsPerSecond(library: CryptoLibrary, hash: HashName, length: number): Promise<number> {
  const salt = new Uint8Array(32)
  for (let rounds = 4096; ; rounds *= 4) {
    const start = performance.now()
    await library.pbkdf2(hash, salt, salt, rounds, length)
    const seconds = (performance.now() - start) / 1000
    if (seconds > 0.02) return rounds / seconds
  }
}

function roundsFor(perSecond: number, milliseconds: number, place: ErrorPlace): number {
  const rounds = Math.floor((perSecond * milliseconds) / 1000)
  if (rounds <= mostRounds) return Math.max(leastRounds, rounds)
  const reason = `PBKDF iterations ${rounds} larger than ${mostRounds}: Numerical result out of range`
  throw new MoraineError('invalid', reason, { ...place, field: 'iter-time', value: milliseconds })
}

/** Fills a slot with a password. The material is in the file before the header says so. */
export async function activateSlot(
  library: CryptoLibrary,
  at: LuksPlace & { file: ByteStore },
  header: LuksHeader,
  index: number,
  masterKey: Uint8Array,
  wanted: { password: Uint8Array; iterTime: number },
  random: Random,
): Promise<void> {
  const changed = copyOf(header)
  const material = await fillSlot(library, changed, index, masterKey, wanted, random, at.place)
  await at.file.write(at.offset + (changed.slots[index]?.keySector ?? 0) * sector, material)
  await at.file.flush()
  await at.file.write(at.offset, encodeLuksHeader(changed))
  await at.file.flush()
  Object.assign(header, changed)
}

/** How often key material is written over before it is given up, as QEMU and cryptsetup do. */
const wipes = 40

/** Empties a slot: its material is written over with random bytes, and then the header no longer has it. Cut short, the slot is there and opens with nothing, and can be erased
 *  again. Key material is gone on a disk that writes in place; one that moves sectors about may keep it. */
export async function eraseSlot(
  at: LuksPlace & { file: ByteStore },
  header: LuksHeader,
  index: number,
  random: Random,
): Promise<void> {
  const changed = copyOf(header)
  const slot = changed.slots[index]
  if (slot === undefined) throw new RangeError('no such key slot')
  slot.active = false
  slot.iterations = 0
  slot.salt = new Uint8Array(32)
  for (let turn = 0; turn < wipes; turn++) {
    await at.file.write(at.offset + slot.keySector * sector, random(materialBytes(header.keyBytes)))
    await at.file.flush()
  }
  await at.file.write(at.offset, encodeLuksHeader(changed))
  await at.file.flush()
  Object.assign(header, changed)
}

function copyOf(header: LuksHeader): LuksHeader {
  return { ...header, slots: header.slots.map((slot) => ({ ...slot })) }
}
