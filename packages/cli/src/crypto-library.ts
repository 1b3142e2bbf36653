/** The cryptography that images are opened with: Node's, and Argon2 from a library where the runtime has none. */
import { type Argon2Request, type CryptoLibrary, MoraineError } from '@moraine/engine'
import { nodeCrypto } from '@moraine/engine/node'

/** Made with the first use, and with nothing loaded: Argon2 comes with the first key slot that asks for it. */
export function cryptoLibrary(): CryptoLibrary {
  return nodeCrypto.argon2 === undefined ? { ...nodeCrypto, argon2: argon2ByLibrary } : nodeCrypto
}

/** By WebAssembly, one lane after the other in this thread; the standalone executable has it inside.
 *  @throws MoraineError `unsupported` for an empty password, which the library does not take, and for what it cannot do. */
export async function argon2ByLibrary({
  kind,
  password,
  salt,
  time,
  memory,
  lanes,
  length,
}: Argon2Request): Promise<Uint8Array> {
  if (password.length === 0) {
    throw new MoraineError('unsupported', 'an empty password cannot be stretched with Argon2 here', {
      field: 'password',
    })
  }
  const library = await import('hash-wasm')
  const derive = kind === 'argon2i' ? library.argon2i : library.argon2id
  try {
    return await derive({
      password,
      salt,
      iterations: time,
      memorySize: memory,
      parallelism: lanes,
      hashLength: length,
      outputType: 'binary',
    })
  } catch (cause) {
    // Bounds of its own (a salt of 8 bytes at least), and memory that is not to be had.
    const words = cause instanceof Error ? cause.message : String(cause)
    throw new MoraineError('unsupported', `Argon2 with ${memory} KiB failed: ${words}`, { field: 'kdf', cause })
  }
}
