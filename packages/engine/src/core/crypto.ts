/** Cryptography is handed in, like codecs: ciphers as whole buffers of blocks, hashes and key derivations. Modes, IV generators and containers are the engine's own. */

/** Block ciphers that disk encryption names, as QEMU 7.2 does. */
export type CipherName = 'aes' | 'serpent' | 'twofish' | 'cast5'

/** Hashes that disk encryption names, as QEMU 7.2 does. */
export type HashName = 'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'ripemd160'

/** A block cipher with its key: every block by itself (ECB), as many as the input has. */
export interface BlockCipher {
  /** Bytes of one block: 8 or 16. */
  readonly blockBytes: number
  /** The input is whole blocks and stays as it is; the result is new, or shares nothing that is used again. */
  encrypt(blocks: Uint8Array): Uint8Array
  decrypt(blocks: Uint8Array): Uint8Array
}

/** What a password is stretched with, as LUKS2 names them. */
export interface Argon2Request {
  kind: 'argon2i' | 'argon2id'
  password: Uint8Array
  salt: Uint8Array
  /** Passes over the memory. */
  time: number
  /** KiB of memory. */
  memory: number
  /** Lanes. */
  lanes: number
  /** Bytes of the result. */
  length: number
}

/** The cryptography at hand. An image that needs what is missing is refused by name. */
export interface CryptoLibrary {
  /** The cipher for a key; undefined where it has no keys of that length. */
  readonly ciphers: Partial<Record<CipherName, (key: Uint8Array) => BlockCipher | undefined>>
  /** The digest of all parts, one after the other. */
  readonly hashes: Partial<Record<HashName, (...parts: readonly Uint8Array[]) => Uint8Array>>
  /** PBKDF2 with HMAC (RFC 8018). */
  pbkdf2(
    hash: HashName,
    password: Uint8Array,
    salt: Uint8Array,
    iterations: number,
    length: number,
  ): Promise<Uint8Array>
  argon2?(request: Argon2Request): Promise<Uint8Array>
}

/** Passwords and keys by id. A `Map` is one. They never stand in messages. */
export interface Secrets {
  get(id: string): Uint8Array | undefined
}

/** How the key of one image is told. */
export interface Encryption {
  /** Id in `Secrets` of the password or key. */
  keySecret?: string | undefined
  /** What the image must be encrypted with, where the caller says so. */
  format?: string | undefined
}
