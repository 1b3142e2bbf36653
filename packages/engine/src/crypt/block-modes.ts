/** Modes of block ciphers over many sectors at once, each with an IV of its own. All are made of a cipher that works on whole buffers block by block: one call for thousands of
 *  blocks costs what one call for a sector would. Measured with Node's OpenSSL, AES-256-XTS in sectors of 512 bytes: 83 MB/s by a call for each sector, 900 MB/s so.
 *  `bytes` is whole sectors and is changed in place; `ivs` has one block for each sector. */
import type { BlockCipher } from '../core/index.ts'

/** One direction of a mode. */
export type SectorPass = (bytes: Uint8Array, ivs: Uint8Array, sectorBytes: number) => void

/** A mode. */
export interface SectorMode {
  encrypt: SectorPass
  decrypt: SectorPass
}

/** The bytes as words; in place where they lie on a word, else a copy. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes)
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4)
}

/** Electronic code book: no IV. */
export function ecbMode(cipher: BlockCipher): SectorMode {
  return {
    encrypt: (bytes) => bytes.set(cipher.encrypt(bytes)),
    decrypt: (bytes) => bytes.set(cipher.decrypt(bytes)),
  }
}

/** XEX with tweaks from the IV, doubled in GF(2^128) from block to block. Sectors are whole blocks, so that no ciphertext is stolen. Source: IEEE 1619-2007. */
export function xtsMode(cipher: BlockCipher, tweakCipher: BlockCipher): SectorMode {
  const pass = (work: (blocks: Uint8Array) => Uint8Array, bytes: Uint8Array, ivs: Uint8Array, sectorBytes: number) => {
    const tweaks = wordsOf(tweakCipher.encrypt(ivs))
    addTweaks(wordsInPlace(bytes), tweaks, sectorBytes / 16)
    const result = work(bytes)
    const words = wordsOf(result)
    addTweaks(words, tweaks, sectorBytes / 16)
    bytes.set(new Uint8Array(words.buffer, words.byteOffset, bytes.length))
  }
  return {
    encrypt: (bytes, ivs, sectorBytes) => pass((blocks) => cipher.encrypt(blocks), bytes, ivs, sectorBytes),
    decrypt: (bytes, ivs, sectorBytes) => pass((blocks) => cipher.decrypt(blocks), bytes, ivs, sectorBytes),
  }
}

function wordsInPlace(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
}

/** Adds to every block its tweak. Words are little-endian, as on every machine that runs JavaScript today; `sector-cipher.ts` refuses others. */
function addTweaks(words: Uint32Array, tweaks: Uint32Array, blocks: number): void {
  for (let at = 0, sector = 0; at < words.length; sector += 4) {
    let a = tweaks[sector] as number
    let b = tweaks[sector + 1] as number
    let c = tweaks[sector + 2] as number
    let d = tweaks[sector + 3] as number
    for (let block = 0; block < blocks; block++, at += 4) {
      ;(words[at] as number) ^= a
      ;(words[at + 1] as number) ^= b
      ;(words[at + 2] as number) ^= c
      ;(words[at + 3] as number) ^= d
      // x^128 = x^7 + x^2 + x + 1.
      const carry = (d >> 31) & 0x87
      d = (d << 1) | (c >>> 31)
      c = (c << 1) | (b >>> 31)
      b = (b << 1) | (a >>> 31)
      a = (a << 1) ^ carry
    }
  }
}

/** Cipher block chaining. The blocks of one sector wait for each other, those of different sectors do not: encryption goes through all sectors block by block. */
export function cbcMode(cipher: BlockCipher): SectorMode {
  const { blockBytes } = cipher
  return {
    encrypt(bytes, ivs, sectorBytes) {
      const words = wordsInPlace(bytes)
      const step = sectorBytes / 4
      const width = blockBytes / 4
      const column = new Uint8Array(ivs)
      let last = wordsInPlace(column)
      for (let inSector = 0; inSector < step; inSector += width) {
        for (let at = inSector, i = 0; at < words.length; at += step, i += width) {
          for (let word = 0; word < width; word++) (last[i + word] as number) ^= words[at + word] as number
        }
        last = wordsOf(cipher.encrypt(new Uint8Array(last.buffer, last.byteOffset, column.length)))
        for (let at = inSector, i = 0; at < words.length; at += step, i += width) {
          for (let word = 0; word < width; word++) words[at + word] = last[i + word] as number
        }
      }
    },
    decrypt(bytes, ivs, sectorBytes) {
      const plain = cipher.decrypt(bytes)
      for (let sector = 0, iv = 0; sector < bytes.length; sector += sectorBytes, iv += blockBytes) {
        for (let i = 0; i < blockBytes; i++) (plain[sector + i] as number) ^= ivs[iv + i] as number
        for (let i = blockBytes; i < sectorBytes; i++) {
          ;(plain[sector + i] as number) ^= bytes[sector + i - blockBytes] as number
        }
      }
      bytes.set(plain)
    },
  }
}

/** Counter mode: the IV is the first counter of its sector, a big-endian number of one block. */
export function ctrMode(cipher: BlockCipher): SectorMode {
  const { blockBytes } = cipher
  const pass: SectorPass = (bytes, ivs, sectorBytes) => {
    const counters = new Uint8Array(bytes.length)
    const counter = new Uint8Array(blockBytes)
    for (let sector = 0, iv = 0; sector < bytes.length; sector += sectorBytes, iv += blockBytes) {
      counter.set(ivs.subarray(iv, iv + blockBytes))
      for (let at = sector; at < sector + sectorBytes; at += blockBytes) {
        counters.set(counter, at)
        for (let i = blockBytes - 1; i >= 0; i--) {
          counter[i] = (counter[i] as number) + 1
          if (counter[i] !== 0) break
        }
      }
    }
    const stream = cipher.encrypt(counters)
    for (let at = 0; at < bytes.length; at++) (bytes[at] as number) ^= stream[at] as number
  }
  return { encrypt: pass, decrypt: pass }
}
