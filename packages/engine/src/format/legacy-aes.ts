/** The encryption of old: AES-128-CBC by a password that is the key itself, in qcow and qcow2. Nothing tells a wrong password. Facts: the behaviour of QEMU 7.2 (`crypto/block-qcow.c`). */
import type { CryptoLibrary, ErrorPlace } from '../core/index.ts'
import { type SectorCipher, sectorCipher } from '../crypt/sector-cipher.ts'

/** The cipher for a password, of which the first 16 bytes count; sectors have the numbers that the guest knows them by. */
export function legacyCipher(library: CryptoLibrary, password: Uint8Array, place: ErrorPlace): SectorCipher {
  const key = new Uint8Array(16)
  key.set(password.subarray(0, 16))
  return sectorCipher(library, { cipher: 'aes', mode: 'cbc', iv: 'plain64' }, key, 512, place)
}
