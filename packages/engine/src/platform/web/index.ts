/** What a browser gives the engine: `#platform` there. A browser has no files by path, no descriptors and no locks of the host; what it has (Blobs,
 *  fetch) comes as sources. */
import { type ByteStore, type Gate, MoraineError } from '../../core/index.ts'

export type * from '../worker-pool.ts'
export { defaultCodecs, defaultStreamCodecs, workers } from './codecs.ts'

function unsupported(what: string, path?: string): MoraineError {
  return new MoraineError('unsupported', `${what} is not possible in a browser`, { path, rule: 'Node' })
}

/** Files have no paths in a browser: use `blobSource` or `openHttp`.
 *  @throws MoraineError `unsupported`, always. */
export function openFile(path: string): Promise<ByteStore> {
  return Promise.reject(unsupported('opening a file by its path', path))
}

/** Files cannot be made by path in a browser: use `MemoryStore`, or stream the conversion.
 *  @throws MoraineError `unsupported`, always. */
export function newFile(path: string): Promise<never> {
  return Promise.reject(unsupported('making a file by its path', path))
}

/** There are no temporary files in a browser: give a store of another kind, as a `MemoryStore` with a limit.
 *  @throws MoraineError `unsupported`, always. */
export function openSpool(): Promise<ByteStore> {
  return Promise.reject(unsupported('a temporary file'))
}

/** A gate that refuses every file, with kind `unsupported`; names are resolved as on the host. */
export function fileGate(): Gate {
  return {
    resolve({ from, name, role }) {
      return role === 'data-file' || /^([^:/]*:|\/)/.test(name) ? name : from.slice(0, from.lastIndexOf('/') + 1) + name
    },
    open: ({ name }) => Promise.reject(unsupported('opening a file that an image names', name)),
  }
}

/** System calls: never in a browser. */
export function nativeAvailable(): boolean {
  return false
}

/** `count` bytes from the browser's generator. */
export function randomBytes(count: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(count))
}
