/** Unlocking LUKS version 2: key slots that are stretched with PBKDF2 or Argon2, within bounds. Facts: LUKS2 On-Disk Format Specification 1.1.1, section 3. */
import {
  type ByteSource,
  type CryptoLibrary,
  type ErrorPlace,
  type HashName,
  type Limits,
  MoraineError,
} from '../core/index.ts'
import { mergeKey } from './anti-forensic.ts'
import { readNames } from './luks-header.ts'
import { byteCount, type JsonObject, type Luks2Header, luks2Fault, objectAt } from './luks2-header.ts'
import { hashNames, hashOf, type SectorCipher, sectorCipher } from './sector-cipher.ts'

/** Key material of a slot, at most: a key of 512 bits in 4000 stripes takes 250 KiB. */
const mostMaterial = 16 * 1024 * 1024

/** What a container of version 2 is read with. */
export interface Luks2Payload {
  cipher: SectorCipher
  /** Number of the first sector, for its IV. */
  firstSector: number
}

/** Opens the payload by a password.
 *  @throws MoraineError `denied` when it opens no slot, `limit` when trying would cost too much, `unsupported` for features that are not known. */
export async function unlockLuks2(
  library: CryptoLibrary,
  file: ByteSource,
  header: Luks2Header,
  password: Uint8Array,
  limits: Limits,
  place: ErrorPlace,
): Promise<Luks2Payload> {
  refuseUnknown(header, place)
  const { segment, json } = header
  const sectorBytes = numberAt(segment, 'sector_size', place)
  if (![512, 1024, 2048, 4096].includes(sectorBytes)) {
    throw luks2Fault(place, 'invalid', 'sectors have an impossible size', 'sector_size', sectorBytes, '512 to 4096')
  }
  const firstSector = byteCount(segment.iv_tweak) ?? 0
  const key = await findKey(new Unlocking(library, file, json, password, limits, place))
  const spec = specOf(segment.encryption, key.length, place)
  return { cipher: sectorCipher(library, spec, key, sectorBytes, place), firstSector }
}

function refuseUnknown({ json, segment }: Luks2Header, place: ErrorPlace): void {
  const mandatory = objectAt(objectAt(json, 'config'), 'requirements').mandatory
  if (Array.isArray(mandatory) && mandatory.length > 0) {
    const value = mandatory.map(String).join(', ').slice(0, 200)
    throw luks2Fault(place, 'unsupported', 'it needs features that are not known here', 'requirements', value)
  }
  if (Object.keys(objectAt(json, 'segments')).length !== 1 || segment.type !== 'crypt') {
    throw luks2Fault(place, 'unsupported', 'its payload is not one encrypted segment', 'segments')
  }
  if (Object.keys(objectAt(segment, 'integrity')).length > 0) {
    throw luks2Fault(place, 'unsupported', 'its sectors carry checksums of their own', 'integrity')
  }
}

/** One attempt at a container. */
class Unlocking {
  readonly library: CryptoLibrary
  readonly file: ByteSource
  readonly json: JsonObject
  readonly password: Uint8Array
  readonly limits: Limits
  readonly place: ErrorPlace
  /** Rounds of PBKDF2, and KiB of memory passed over by Argon2, so far. */
  rounds = 0
  passed = 0

  constructor(
    library: CryptoLibrary,
    file: ByteSource,
    json: JsonObject,
    password: Uint8Array,
    limits: Limits,
    place: ErrorPlace,
  ) {
    this.library = library
    this.file = file
    this.json = json
    this.password = password
    this.limits = limits
    this.place = place
  }

  /** PBKDF2, as long as all of it together is within bounds. */
  pbkdf2(kdf: JsonObject, password: Uint8Array, length: number): Promise<Uint8Array> {
    const iterations = numberAt(kdf, 'iterations', this.place)
    this.rounds += iterations
    if (this.rounds > this.limits.keyRounds) {
      const rule = `at most ${this.limits.keyRounds} in all slots together`
      throw luks2Fault(this.place, 'limit', 'its key derivation would take too long', 'iterations', iterations, rule)
    }
    return this.library.pbkdf2(
      hashNamed(kdf.hash, this.place),
      password,
      base64At(kdf, 'salt', this.place),
      iterations,
      length,
    )
  }

  argon2(kdf: JsonObject, kind: 'argon2i' | 'argon2id', length: number): Promise<Uint8Array> {
    const { place, library, limits } = this
    if (library.argon2 === undefined) {
      throw luks2Fault(place, 'unsupported', `its password is stretched with ${kind}, which is not at hand`, 'kdf')
    }
    const time = numberAt(kdf, 'time', place)
    const memory = numberAt(kdf, 'memory', place)
    const lanes = numberAt(kdf, 'cpus', place)
    this.passed += time * memory
    if (memory * 1024 > limits.keyBytes || this.passed * 1024 > limits.keyBytes * 16) {
      const rule = `at most ${limits.keyBytes} bytes, gone over 16 times by all slots together`
      throw luks2Fault(place, 'limit', 'its key derivation would take too much memory', 'memory', memory, rule)
    }
    if (lanes > 64 || memory < 8 * lanes) {
      throw luks2Fault(place, 'invalid', 'its key derivation has impossible parameters', 'cpus', lanes, '1 to 64')
    }
    const salt = base64At(kdf, 'salt', place)
    return library.argon2({ kind, password: this.password, salt, time, memory, lanes, length })
  }
}

/** The key of segment 0. */
async function findKey(work: Unlocking): Promise<Uint8Array> {
  const { json, place } = work
  for (const name of Object.keys(objectAt(json, 'digests')).slice(0, 32)) {
    const digest = objectAt(objectAt(json, 'digests'), name)
    if (digest.type !== 'pbkdf2' || !namesOf(digest.segments).includes('0')) continue
    for (const slot of namesOf(digest.keyslots).slice(0, 32)) {
      const keyslot = objectAt(objectAt(json, 'keyslots'), slot)
      if (keyslot.type !== 'luks2') continue
      const key = await openSlot(work, keyslot)
      const expected = base64At(digest, 'digest', place)
      const proof = await work.pbkdf2(digest, key, expected.length)
      if (proof.every((byte, i) => byte === expected[i])) return key
    }
  }
  throw new MoraineError('denied', 'Invalid password, cannot unlock any keyslot', { ...place, field: 'key-secret' })
}

async function openSlot(work: Unlocking, keyslot: JsonObject): Promise<Uint8Array> {
  const { place, library, file } = work
  const area = objectAt(keyslot, 'area')
  const split = objectAt(keyslot, 'af')
  const keyBytes = numberAt(keyslot, 'key_size', place)
  const stripes = numberAt(split, 'stripes', place)
  const areaKeyBytes = numberAt(area, 'key_size', place)
  if (split.type !== 'luks1' || area.type !== 'raw') {
    throw luks2Fault(place, 'unsupported', 'its key slots are of a kind that is not known here', 'keyslots')
  }
  const length = Math.ceil((keyBytes * stripes) / 512) * 512
  const offset = byteCount(area.offset)
  const size = byteCount(area.size)
  if (keyBytes > 512 || areaKeyBytes > 512 || length > mostMaterial) {
    throw luks2Fault(place, 'invalid', 'its key material has an impossible size', 'stripes', length, '16 MiB at most')
  }
  if (offset === undefined || size === undefined || size < length || offset + length > file.size) {
    throw luks2Fault(place, 'invalid', 'its key material lies outside its area', 'area', length)
  }
  const kdf = objectAt(keyslot, 'kdf')
  const key = await derive(work, kdf, areaKeyBytes)
  const material = new Uint8Array(length)
  await file.read(offset, material)
  sectorCipher(library, specOf(area.encryption, areaKeyBytes, place), key, 512, place).decrypt(0, material)
  return mergeKey(material, keyBytes, stripes, hashOf(library, hashNamed(split.hash, place), place))
}

function derive(work: Unlocking, kdf: JsonObject, length: number): Promise<Uint8Array> {
  const { type } = kdf
  if (type === 'pbkdf2') return work.pbkdf2(kdf, work.password, length)
  if (type === 'argon2i' || type === 'argon2id') return work.argon2(kdf, type, length)
  throw luks2Fault(work.place, 'unsupported', 'its password is stretched in a way that is not known here', 'kdf')
}

function specOf(encryption: unknown, keyBytes: number, place: ErrorPlace) {
  const text = typeof encryption === 'string' ? encryption : ''
  const [, name = '', mode = ''] = /^([^-]*)-(.*)$/s.exec(text.slice(0, 64)) ?? []
  return readNames({ name, mode, hash: 'sha256', keyBytes }, { ...place, format: 'luks2' }).spec
}

function hashNamed(value: unknown, place: ErrorPlace): HashName {
  const found = hashNames.find((name) => name === value)
  if (found !== undefined) return found
  throw luks2Fault(place, 'unsupported', `Hash algorithm '${String(value).slice(0, 32)}' not supported`, 'hash')
}

function numberAt(of: JsonObject, key: string, place: ErrorPlace): number {
  const value = of[key]
  if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 2 ** 32) return value
  throw luks2Fault(place, 'invalid', 'the header lacks a number', key, undefined, '1 to 2^32 − 1')
}

function namesOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : []
}

function base64At(of: JsonObject, key: string, place: ErrorPlace): Uint8Array {
  const value = of[key]
  try {
    if (typeof value === 'string' && value.length <= 4096) {
      const bytes = Uint8Array.from(atob(value), (char) => char.charCodeAt(0))
      if (bytes.length > 0) return bytes
    }
  } catch {
    // Said below.
  }
  throw luks2Fault(place, 'invalid', 'the header lacks bytes in base64', key)
}
