/** The header of LUKS version 1: parsed, judged, written. It stands at the beginning of a container of its own and inside a qcow2 image. Facts: LUKS1 On-Disk Format Specification 1.2.3;
 *  rules and words are those of QEMU 7.2. All numbers are big-endian. */
import { divideUp, roundUp, viewOf } from '../bytes/integers.ts'
import { type CipherName, type DetailValue, type ErrorPlace, type HashName, MoraineError } from '../core/index.ts'
import {
  type CipherSpec,
  essivKeyBytes,
  hashNames,
  type IvName,
  ivNames,
  type ModeName,
  modeNames,
} from './sector-cipher.ts'

/** Bytes of the header's fields. */
export const luksHeaderBytes = 592
/** Bytes before the first key material. */
const headerArea = 4096
/** Stripes of all key material: nobody writes another number. */
export const stripeCount = 4000
/** Key slots. */
export const slotCount = 8
const sectorBytes = 512
/** Bytes of the digest of the master key. */
export const digestBytes = 20

const slotState = { active: 0x00ac_71f3, inactive: 0x0000_dead } as const

/** One place for a password. Sectors of 512 bytes from the header's beginning. */
export interface KeySlot {
  active: boolean
  iterations: number
  salt: Uint8Array
  keySector: number
}

/** A header, decoded. */
export interface LuksHeader {
  spec: CipherSpec
  hash: HashName
  /** Sectors of 512 bytes before the payload, which a qcow2 image does not have. */
  payloadSector: number
  /** Bytes of the master key: both halves with XTS. */
  keyBytes: number
  digest: Uint8Array
  digestSalt: Uint8Array
  digestIterations: number
  uuid: string
  slots: KeySlot[]
}

/** Key lengths of the ciphers that QEMU names, in bytes. */
export const cipherKeyBytes: Record<CipherName, readonly number[]> = {
  aes: [16, 24, 32],
  cast5: [16],
  serpent: [16, 24, 32],
  twofish: [16, 24, 32],
}

const digestLengths: Record<HashName, number> = {
  md5: 16,
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
}

/** The version of a container that begins with these bytes; undefined for anything else. */
export function luksVersion(head: Uint8Array): number | undefined {
  const magic = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]
  if (head.length < 8 || magic.some((byte, i) => head[i] !== byte)) return undefined
  return viewOf(head).getUint16(6)
}

/** Bytes that the material of one slot takes, in whole sectors. */
export function materialBytes(keyBytes: number): number {
  return divideUp(keyBytes * stripeCount, sectorBytes) * sectorBytes
}

/** Where the key material of a new container lies, and its payload, in sectors: slots begin on 4 KiB, as QEMU and cryptsetup place them. */
export function placesFor(keyBytes: number): { keySectors: number[]; payloadSector: number } {
  const first = headerArea / sectorBytes
  const each = roundUp(materialBytes(keyBytes), headerArea) / sectorBytes
  return {
    keySectors: Array.from({ length: slotCount }, (_, slot) => first + slot * each),
    payloadSector: first + slotCount * each,
  }
}

/** Parses and judges a header.
 *  @throws MoraineError `not-this-format`, `invalid` or `unsupported`, in QEMU's words. */
export function parseLuksHeader(bytes: Uint8Array, place: ErrorPlace): LuksHeader {
  const view = viewOf(bytes)
  const refuse = (reason: string, field: string, value: number | string, rule?: string): never => {
    throw new MoraineError('invalid', reason, { ...place, field, value, rule })
  }
  const version = bytes.length < luksHeaderBytes ? undefined : luksVersion(bytes)
  if (version === undefined) {
    throw new MoraineError('not-this-format', 'Volume is not in LUKS format', { ...place, field: 'magic' })
  }
  if (version !== 1) {
    const rule = 'version 1'
    throw new MoraineError('unsupported', `LUKS version ${version} is not supported`, {
      ...place,
      field: 'version',
      rule,
    })
  }
  const name = textField(bytes, 8, () => refuse('LUKS header cipher name is not NUL terminated', 'cipher-name', ''))
  const mode = textField(bytes, 40, () => refuse('LUKS header cipher mode is not NUL terminated', 'cipher-mode', ''))
  const hash = textField(bytes, 72, () => refuse('LUKS header hash spec is not NUL terminated', 'hash-spec', ''))
  const header = {
    payloadSector: view.getUint32(104),
    keyBytes: view.getUint32(108),
    digest: bytes.slice(112, 132),
    digestSalt: bytes.slice(132, 164),
    digestIterations: view.getUint32(164),
    uuid: cut(new TextDecoder('latin1').decode(bytes.subarray(168, 208))),
  }
  if (header.payloadSector < headerArea / sectorBytes) {
    refuse('LUKS payload is overlapping with the header', 'payload-offset', header.payloadSector, '8 sectors at least')
  }
  if (header.digestIterations === 0) refuse('LUKS key iteration count is zero', 'mk-digest-iter', 0, '1 at least')
  const slots = Array.from({ length: slotCount }, (_, slot) => readSlot(bytes, slot, refuse))
  checkPlaces(slots, header, refuse)
  return { ...header, ...readNames({ name, mode, hash, keyBytes: header.keyBytes }, place), slots }
}

type Refuse = (reason: string, field: string, value: number | string, rule?: string) => never

function textField(bytes: Uint8Array, at: number, unterminated: () => never): string {
  const text = bytes.subarray(at, at + 32)
  if (!text.includes(0)) unterminated()
  return cut(new TextDecoder('latin1').decode(text))
}

function cut(text: string): string {
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

function readSlot(bytes: Uint8Array, index: number, refuse: Refuse): KeySlot {
  const at = 208 + index * 48
  const view = viewOf(bytes)
  const stripes = view.getUint32(at + 44)
  const slot: KeySlot = {
    active: view.getUint32(at) === slotState.active,
    iterations: view.getUint32(at + 4),
    salt: bytes.slice(at + 8, at + 40),
    keySector: view.getUint32(at + 40),
  }
  if (stripes !== stripeCount) {
    refuse(`Keyslot ${index} is corrupted (stripes ${stripes} != ${stripeCount})`, 'stripes', stripes)
  }
  if (slot.keySector < headerArea / sectorBytes) {
    const reason = `Keyslot ${index} is overlapping with the LUKS header`
    refuse(reason, 'key-material-offset', slot.keySector, '8 sectors at least')
  }
  if (!slot.active && view.getUint32(at) !== slotState.inactive) {
    refuse(`Keyslot ${index} state (active/disable) is corrupted`, 'active', `0x${view.getUint32(at).toString(16)}`)
  }
  if (slot.active && slot.iterations === 0) refuse(`Keyslot ${index} iteration count is zero`, 'iterations', 0)
  return slot
}

function checkPlaces(slots: KeySlot[], header: { keyBytes: number; payloadSector: number }, refuse: Refuse): void {
  const length = materialBytes(header.keyBytes) / sectorBytes
  slots.forEach((slot, index) => {
    const end = slot.keySector + length
    if (end > header.payloadSector) {
      const reason = `Keyslot ${index} is overlapping with the encrypted payload`
      refuse(reason, 'key-material-offset', slot.keySector, `an end at sector ${header.payloadSector} at most`)
    }
    for (let other = index + 1; other < slots.length; other++) {
      const start = slots[other]?.keySector ?? 0
      if (start < end && slot.keySector < start + length) {
        const reason = `Keyslots ${index} and ${other} are overlapping in the header`
        refuse(reason, 'key-material-offset', start)
      }
    }
  })
}

/** What a header calls its cipher, its mode and its hash.
 *  @throws MoraineError `unsupported` for names that are not known, in QEMU's words. */
export function readNames(
  { name, mode: spec, hash, keyBytes }: { name: string; mode: string; hash: string; keyBytes: number },
  place: ErrorPlace,
): Pick<LuksHeader, 'spec' | 'hash'> {
  const fail = (reason: string, field: string, value: string | number): never => {
    throw new MoraineError('unsupported', reason, { ...place, field, value })
  }
  const [, modeText, rest] = /^([^-]*)-(.*)$/s.exec(spec) ?? []
  if (modeText === undefined || rest === undefined) {
    return fail(`Unexpected cipher mode string format '${spec}'`, 'cipher-mode', spec)
  }
  const [, ivText = '', ivHashText] = /^([^:]*)(?::(.*))?$/s.exec(rest) ?? []
  const known = <Name extends string>(what: string, text: string, names: readonly Name[]): Name =>
    names.find((entry) => entry === text) ?? fail(`${what} '${text}' not supported`, what.toLowerCase(), text)
  const ivHash = ivHashText === undefined ? undefined : known('Hash algorithm', ivHashText, hashNames)
  const mode: ModeName = known('Cipher mode', modeText, modeNames)
  if (mode === 'xts' && keyBytes % 2 !== 0) {
    fail('XTS cipher key length should be a multiple of 2', 'key-bytes', keyBytes)
  }
  const each = mode === 'xts' ? keyBytes / 2 : keyBytes
  if (!Object.hasOwn(cipherKeyBytes, name) || !cipherKeyBytes[name as CipherName].includes(each)) {
    fail(`Algorithm '${name}' with key size ${each} bytes not supported`, 'cipher-name', name)
  }
  const cipher = name as CipherName
  const digest: HashName = known('Hash algorithm', hash, hashNames)
  const iv: IvName = known('IV generator', ivText, ivNames)
  if (iv === 'essiv') {
    if (ivHash === undefined) return fail('Missing IV generator hash specification', 'cipher-mode', spec)
    essivKeyBytes(cipher, digestLengths[ivHash], place)
  }
  return { spec: { cipher, mode, iv, ivHash }, hash: digest }
}

/** Encodes a header. */
export function encodeLuksHeader(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(luksHeaderBytes)
  const view = viewOf(bytes)
  const { spec } = header
  const text = (at: number, value: string) => bytes.set(new TextEncoder().encode(value), at)
  bytes.set([0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe])
  view.setUint16(6, 1)
  text(8, spec.cipher)
  text(40, `${spec.mode}-${spec.iv}${spec.ivHash === undefined ? '' : `:${spec.ivHash}`}`)
  text(72, header.hash)
  view.setUint32(104, header.payloadSector)
  view.setUint32(108, header.keyBytes)
  bytes.set(header.digest, 112)
  bytes.set(header.digestSalt, 132)
  view.setUint32(164, header.digestIterations)
  text(168, header.uuid)
  header.slots.forEach((slot, index) => {
    const at = 208 + index * 48
    view.setUint32(at, slot.active ? slotState.active : slotState.inactive)
    view.setUint32(at + 4, slot.iterations)
    bytes.set(slot.salt, at + 8)
    view.setUint32(at + 40, slot.keySector)
    view.setUint32(at + 44, stripeCount)
  })
  return bytes
}

/** The facts of a header, as QEMU's `info` has them, in its order. `more` stands where it stands there for an image that holds a container. */
export function luksDetails(header: LuksHeader, more: Record<string, DetailValue> = {}): Record<string, DetailValue> {
  const { spec, keyBytes } = header
  const bits = (spec.mode === 'xts' ? keyBytes / 2 : keyBytes) * 8
  return {
    'ivgen-alg': spec.iv,
    'hash-alg': header.hash,
    'cipher-alg': `${spec.cipher}-${bits}`,
    uuid: header.uuid,
    ...(spec.iv === 'essiv' && spec.ivHash !== undefined ? { 'ivgen-hash-alg': spec.ivHash } : {}),
    ...more,
    'cipher-mode': spec.mode,
    slots: header.slots.map(({ active, iterations, keySector }): DetailValue => {
      const place = { 'key-offset': keySector * sectorBytes }
      return active ? { active, iters: iterations, ...place, stripes: stripeCount } : { active, ...place }
    }),
    'payload-offset': header.payloadSector * sectorBytes,
    'master-key-iters': header.digestIterations,
  }
}
