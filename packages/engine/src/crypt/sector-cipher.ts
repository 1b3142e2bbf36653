/** What encrypts the sectors of a disk: a cipher, a mode, an IV generator and a key, put together from their names. */
import {
  type BlockCipher,
  type CipherName,
  type CryptoLibrary,
  type ErrorPlace,
  type HashName,
  MoraineError,
} from '../core/index.ts'
import { cbcMode, ctrMode, ecbMode, type SectorMode, xtsMode } from './block-modes.ts'
import { essivIv, type IvGenerator, plain64Iv, plainIv } from './iv.ts'

/** Modes that disk encryption names, as QEMU 7.2 does. */
export const modeNames = ['ecb', 'cbc', 'xts', 'ctr'] as const
/** IV generators that disk encryption names, as QEMU 7.2 does. */
export const ivNames = ['plain', 'plain64', 'essiv'] as const
/** Hashes, in QEMU's order. */
export const hashNames = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'ripemd160'] as const

/** A mode. */
export type ModeName = (typeof modeNames)[number]
/** An IV generator. */
export type IvName = (typeof ivNames)[number]

/** How sectors are encrypted. */
export interface CipherSpec {
  cipher: CipherName
  mode: ModeName
  iv: IvName
  /** Of `essiv`. */
  ivHash?: HashName | undefined
}

/** Sectors are worked on in pieces of this many bytes: what is worked on stays in the processor's cache. */
const pieceBytes = 128 * 1024

/** Encrypts and decrypts whole sectors. Numbers of sectors count 512 bytes, whatever the size of a sector is. */
export class SectorCipher {
  /** Bytes of a sector. */
  readonly sectorBytes: number
  readonly #mode: SectorMode
  readonly #iv: IvGenerator
  readonly #blockBytes: number

  constructor(mode: SectorMode, iv: IvGenerator, blockBytes: number, sectorBytes: number) {
    this.sectorBytes = sectorBytes
    this.#mode = mode
    this.#iv = iv
    this.#blockBytes = blockBytes
  }

  /** Decrypts in place. */
  decrypt(firstSector: number, bytes: Uint8Array): void {
    this.#pass('decrypt', firstSector, bytes)
  }

  /** The same bytes encrypted; the input stays as it is. */
  encrypt(firstSector: number, bytes: Uint8Array): Uint8Array {
    // Not `slice`, which of Node's buffers is a view.
    const encrypted = new Uint8Array(bytes)
    this.#pass('encrypt', firstSector, encrypted)
    return encrypted
  }

  #pass(direction: 'encrypt' | 'decrypt', firstSector: number, bytes: Uint8Array): void {
    const { sectorBytes } = this
    if (bytes.length % sectorBytes !== 0) throw new RangeError('sectors are encrypted whole')
    // Words lie on multiples of four; where the caller's bytes do not, they are worked on elsewhere.
    if (bytes.byteOffset % 4 !== 0) {
      const aligned = new Uint8Array(bytes)
      this.#pass(direction, firstSector, aligned)
      bytes.set(aligned)
      return
    }
    const step = sectorBytes / 512
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = bytes.subarray(at, at + pieceBytes)
      const ivs = new Uint8Array((piece.length / sectorBytes) * this.#blockBytes)
      this.#iv(ivs, this.#blockBytes, firstSector + at / 512, step)
      this.#mode[direction](piece, ivs, sectorBytes)
    }
  }
}

/** Puts a sector cipher together.
 *  @throws MoraineError `unsupported` for what the library has not and for combinations that mean nothing; QEMU's words where it has them. */
export function sectorCipher(
  library: CryptoLibrary,
  spec: CipherSpec,
  key: Uint8Array,
  sectorBytes = 512,
  place: ErrorPlace = {},
): SectorCipher {
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
    throw new MoraineError('unsupported', 'disks are not decrypted on machines of big-endian words', place)
  }
  const { mode } = spec
  const half = mode === 'xts' ? key.length / 2 : key.length
  const cipher = keyedCipher(library, spec.cipher, key.subarray(0, half), place)
  if (mode === 'xts' && cipher.blockBytes !== 16) {
    throw new MoraineError('unsupported', 'Unsupported cipher mode xts', { ...place, field: 'cipher mode' })
  }
  const made =
    mode === 'xts'
      ? xtsMode(cipher, keyedCipher(library, spec.cipher, key.subarray(half), place))
      : { ecb: ecbMode, cbc: cbcMode, ctr: ctrMode }[mode](cipher)
  return new SectorCipher(made, ivGenerator(library, spec, key, place), cipher.blockBytes, sectorBytes)
}

function keyedCipher(library: CryptoLibrary, name: CipherName, key: Uint8Array, place: ErrorPlace): BlockCipher {
  const make = library.ciphers[name]
  if (make === undefined) {
    throw new MoraineError('unsupported', `Algorithm '${name}' not supported`, {
      ...place,
      field: 'cipher name',
      rule: `one of ${Object.keys(library.ciphers).join(', ')}, which are at hand`,
    })
  }
  const cipher = make(key)
  if (cipher !== undefined) return cipher
  throw new MoraineError('unsupported', `Algorithm '${name}' with key size ${key.length} bytes not supported`, {
    ...place,
    field: 'key bytes',
    value: key.length,
  })
}

function ivGenerator(library: CryptoLibrary, spec: CipherSpec, key: Uint8Array, place: ErrorPlace): IvGenerator {
  if (spec.iv === 'plain') return plainIv
  if (spec.iv === 'plain64') return plain64Iv
  const salt = hashOf(library, spec.ivHash ?? 'sha256', place)(key)
  essivKeyBytes(spec.cipher, salt.length, place)
  return essivIv(keyedCipher(library, spec.cipher, salt, place))
}

const essivNames: Partial<Record<CipherName, string>> = { aes: 'AES', serpent: 'Serpent', twofish: 'Twofish' }

/** Whether a cipher takes a hash of this many bytes for ESSIV.
 *  @throws MoraineError `unsupported`. */
export function essivKeyBytes(cipher: CipherName, bytes: number, place: ErrorPlace = {}): void {
  const name = essivNames[cipher]
  const at = { ...place, field: 'IV generator', value: 'essiv' }
  if (name === undefined) {
    throw new MoraineError('unsupported', `Cipher ${cipher}-128 not supported with essiv`, at)
  }
  if (bytes === 16 || bytes === 24 || bytes === 32) return
  throw new MoraineError('unsupported', `No ${name} cipher with key size ${bytes} available`, at)
}

/** A hash of the library.
 *  @throws MoraineError `unsupported`. */
export function hashOf(
  library: CryptoLibrary,
  name: HashName,
  place: ErrorPlace = {},
): (...parts: readonly Uint8Array[]) => Uint8Array {
  const hash = library.hashes[name]
  if (hash !== undefined) return hash
  throw new MoraineError('unsupported', `Hash algorithm '${name}' is not supported`, { ...place, field: 'hash' })
}
