/** Opens files and block devices of the host. */
import fs from 'node:fs'
import { type ByteStore, MoraineError } from '../../core/index.ts'
import { DeviceStore, deviceGeometry } from './device-store.ts'
import { mayBlock, readingTurnMs } from './event-loop.ts'
import { FileStore } from './file-store.ts'
import { codeOf, hostError, openError, strerror } from './host-error.ts'
import type { HostFile } from './host-file.ts'
import { type ImageLock, imageLocks, lockDescriptor } from './locks.ts'
import { type Native, native } from './native.ts'

/** How a file of the host is opened. */
export interface OpenFileOptions {
  /** Default `read`: every writing call is refused with kind `denied`. */
  mode?: 'read' | 'write' | undefined
  /** With mode `write`: makes the file when it is not there and empties it when it is (a device stays as it is). */
  create?: boolean | undefined
  /** With `create`: the file must not be there yet. */
  exclusive?: boolean | undefined
  /** `qemu`: QEMU's image lock for that mode (`imageLocks.read` or `.write`), taken before an existing file is emptied; or a lock of the
   *  caller's choice. Default `none`. Where there are no system calls (`nativeAvailable()` says so) nothing is locked. */
  lock?: 'qemu' | 'none' | ImageLock | undefined
  /** `unsafe`: flush() does nothing. Default `always`. */
  sync?: 'always' | 'unsafe' | undefined
  /** `here`: a regular file is opened, read and closed in the calling thread, for 50 ms between two turns of the event loop. For a process that reads little and waits for it:
   *  no thread need start. Default `aside`. */
  reads?: 'here' | 'aside' | undefined
  /** `here`: writes into a regular file are made in the calling thread, for 5 ms between two turns of the event loop. It is the faster way for a process with nothing
   *  else to do, as reads go on beside in other threads; a slow disk holds the process up. Default `aside`. */
  writes?: 'here' | 'aside' | undefined
  /** With `create`: what the file system is asked for while the file is empty. Most know nothing of it. */
  placement?: Placement | undefined
  /** False: do without system calls that Node lacks (no holes, no in-kernel copy, no locks). */
  native?: boolean | undefined
  /** The name in messages and for the gate; default the path. */
  name?: string | undefined
}

/** How a file system shall place the content of a new file. */
export interface Placement {
  /** Btrfs: written over in place, without checksums. Default false. */
  noCopyOnWrite?: boolean | undefined
  /** XFS: bytes by which the file grows on the disk; a multiple of its blocks, up to 2^32 − 1. Default 0: as the file system likes. */
  extentSize?: number | undefined
  /** Told why an extent size was not taken, in the system's words. */
  onRefusal?: ((reason: string) => void) | undefined
}

/** Opens a regular file or a device by its path, without any protocol prefix (see `localPath`).
 *  @throws MoraineError `missing`, `denied`, `locked` (QEMU's text as reason, hint beside it), `invalid` for a folder or a pipe, `io`. */
export async function openFile(path: string, options: OpenFileOptions = {}): Promise<ByteStore> {
  const { constants } = fs
  const writable = options.mode === 'write'
  const create = writable && options.create === true
  // O_NONBLOCK: a pipe or a tape must not hang the open; files and disks do not care.
  let flags = constants.O_NONBLOCK | (writable ? constants.O_RDWR : constants.O_RDONLY)
  if (create) flags |= constants.O_CREAT | (options.exclusive === true ? constants.O_EXCL : 0)
  const failed = (error: unknown) => openError(options.name ?? path, error, create ? 'create' : 'open')
  const descriptor =
    options.reads === 'here' && mayBlock(readingTurnMs)
      ? openHere(path, flags, failed)
      : await openAside(path, flags, failed)
  try {
    const store = wrap(descriptor, path, options)
    const lock = lockFor(options)
    if (lock !== undefined && options.native !== false) {
      const calls = native()
      if (calls !== undefined) lockDescriptor(descriptor, store.name, lock, calls)
    }
    // Only now: an image that somebody else holds must not be emptied.
    if (create && store.kind === 'file' && store.size > 0) await store.resize(0)
    if (create && store.kind === 'file' && options.native !== false) place(descriptor, options.placement)
    return store
  } catch (error) {
    fs.closeSync(descriptor)
    throw error
  }
}

const permissions = 0o644

function openHere(path: string, flags: number, failed: (error: unknown) => MoraineError): number {
  try {
    return fs.openSync(path, flags, permissions)
  } catch (error) {
    throw failed(error)
  }
}

function openAside(path: string, flags: number, failed: (error: unknown) => MoraineError): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, permissions, (error, descriptor) =>
      error === null ? resolve(descriptor) : reject(failed(error)),
    )
  })
}

function place(descriptor: number, { noCopyOnWrite, extentSize = 0, onRefusal }: Placement = {}): void {
  if (noCopyOnWrite === true) native()?.stopCopyOnWrite(descriptor)
  const code = extentSize > 0 ? native()?.setExtentSize(descriptor, extentSize) : undefined
  if (code !== undefined) onRefusal?.(strerror(code))
}

function lockFor(options: OpenFileOptions): ImageLock | undefined {
  if (options.lock === undefined || options.lock === 'none') return undefined
  if (options.lock !== 'qemu') return options.lock
  return options.mode === 'write' ? imageLocks.write : imageLocks.read
}

function wrap(descriptor: number, path: string, options: OpenFileOptions): HostFile {
  const name = options.name ?? path
  let stats: fs.Stats
  try {
    stats = fs.fstatSync(descriptor)
  } catch (error) {
    throw hostError(codeOf(error), { path: name, cause: error })
  }
  const calls: () => Native | undefined = options.native === false ? () => undefined : native
  const facts = {
    descriptor,
    name,
    size: stats.size,
    identity: `${stats.dev}:${stats.ino}`,
    writable: options.mode === 'write',
    unsafe: options.sync === 'unsafe',
    readsHere: options.reads === 'here' && stats.isFile(),
    writesHere: options.writes === 'here' && stats.isFile(),
    native: calls,
  }
  if (stats.isFile()) return new FileStore(facts)
  if (stats.isBlockDevice()) {
    const { size, block } = deviceGeometry(descriptor, name, stats.rdev, calls())
    // Two nodes of one device are the same bytes.
    return new DeviceStore({ ...facts, size, identity: `block:${stats.rdev}` }, block)
  }
  // As /dev/null: nothing to read, and no place to write at.
  if (stats.isCharacterDevice()) return new DeviceStore({ ...facts, size: 0 }, 1)
  throw new MoraineError('invalid', `'file' driver requires '${name}' to be a regular file`, {
    path: name,
    rule: 'a regular file or a device',
  })
}
