/** What Node gives the engine: `#platform` outside browsers. */

export type * from '../worker-pool.ts'
export { nodeCodecs, nodeCodecs as defaultCodecs } from './codecs.ts'
export { fileGate, localPath, protocolOf } from './gate.ts'
export { codeOf, strerror } from './host-error.ts'
export { type ImageLock, imageLocks, type LockPermission, lockImage, unlockImage } from './locks.ts'
export { nativeAvailable } from './native.ts'
export { type NewFile, type NewFileOptions, newFile } from './new-file.ts'
export { type OpenFileOptions, openFile } from './open-file.ts'
export { randomBytes } from './random.ts'
export { openSpool } from './spool.ts'
export { nodeStreamCodecs, nodeStreamCodecs as defaultStreamCodecs } from './stream-codecs.ts'
export { workers } from './workers.ts'
