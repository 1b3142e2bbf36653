/** Stands in for `node:fs` in the standalone executable (scripts/build-binary.ts): loading Bun's takes about 1 ms of a start, and the few calls that a command on a small
 *  image makes are had from the C library. Whatever else is asked for, and every call that fails or is made in another way than here, is for Bun's own,
 *  which has the words and the rest. */
import type nodeFs from 'node:fs'
import { cLibrary } from './c-library.ts'

let loaded: typeof nodeFs | undefined

function whole(): typeof nodeFs {
  loaded ??= process.getBuiltinModule('node:fs')
  return loaded
}

// Linux UAPI fcntl.h and stat.h; those named here are the same on x64 and arm64.
const constants = { O_RDONLY: 0, O_RDWR: 2, O_CREAT: 0o100, O_EXCL: 0o200, O_NONBLOCK: 0o4000 }
const closeOnExec = 0o2000000
const here = -100
const linkItself = 0x100
const emptyPath = 0x1000
const basicStats = 0x7ff
const noEntry = -2
const notThatKind = -22

const encoder = new TextEncoder()

/** A path as C takes it; undefined when it is none. */
function pathBytes(path: unknown): Uint8Array | undefined {
  return typeof path === 'string' && path !== '' && !path.includes('\0') ? encoder.encode(`${path}\0`) : undefined
}

function openSync(path: nodeFs.PathLike, flags?: nodeFs.OpenMode, mode?: nodeFs.Mode | null): number {
  const bytes = pathBytes(path)
  const number = flags === 'r' || flags === undefined ? constants.O_RDONLY : flags
  if (bytes !== undefined && typeof number === 'number' && (mode == null || typeof mode === 'number')) {
    const opened = cLibrary()?.symbols.openat(here, bytes, number | closeOnExec, mode ?? 0o666)
    if (opened !== undefined && opened >= 0) return opened
  }
  return whole().openSync(path, flags ?? 'r', mode)
}

function closeSync(descriptor: number): void {
  // A descriptor is gone after any close but that of a wrong one.
  if (cLibrary()?.symbols.close(descriptor) !== 0) whole().closeSync(descriptor)
}

type Transfer = (
  descriptor: number,
  bytes: NodeJS.ArrayBufferView,
  offset?: number | null,
  length?: number | null,
  position?: number | null,
) => number

/** `plain` where there is no position, `at` where there is one. */
function transfer(plain: 'read' | 'write', at: 'pread' | 'pwrite', otherwise: () => Transfer): Transfer {
  return (descriptor, bytes, offset, length, position) => {
    const from = offset ?? 0
    const room = ArrayBuffer.isView(bytes) ? bytes.byteLength - from : -1
    const count = length ?? room
    if (bytes instanceof Uint8Array && from >= 0 && count > 0 && count <= room) {
      const part = from === 0 ? bytes : bytes.subarray(from)
      const symbols = cLibrary()?.symbols
      const done =
        typeof position === 'number' && position >= 0
          ? symbols?.[at](descriptor, part, count, position)
          : position == null
            ? symbols?.[plain](descriptor, part, count)
            : undefined
      if (done !== undefined && done >= 0) return done
    }
    return otherwise()(descriptor, bytes, offset, length, position)
  }
}

const readSync = transfer('read', 'pread', () => whole().readSync as Transfer)
const writeSync = transfer('write', 'pwrite', () => whole().writeSync as Transfer)

function ftruncateSync(descriptor: number, size?: number | null): void {
  if (typeof size === 'number' && size >= 0 && cLibrary()?.symbols.ftruncate(descriptor, size) === 0) return
  whole().ftruncateSync(descriptor, size ?? undefined)
}

/** What is asked of the facts of an open file. */
type Facts = Pick<
  nodeFs.Stats,
  'dev' | 'ino' | 'mode' | 'size' | 'blocks' | 'rdev' | 'isFile' | 'isBlockDevice' | 'isCharacterDevice' | 'isDirectory'
>

function fstatSync(descriptor: number, options?: nodeFs.StatOptions): Facts | nodeFs.BigIntStats {
  const facts = new DataView(new ArrayBuffer(256))
  const bytes = new Uint8Array(facts.buffer)
  const asked = options === undefined ? cLibrary() : undefined
  if (asked?.symbols.statx?.(descriptor, encoder.encode('\0'), emptyPath, basicStats, bytes) !== 0) {
    return whole().fstatSync(descriptor, options)
  }
  // struct statx of Linux UAPI stat.h.
  const mode = facts.getUint16(28, true)
  const isKind = (kind: number) => () => (mode & 0o170000) === kind
  return {
    mode,
    ino: Number(facts.getBigUint64(32, true)),
    size: Number(facts.getBigUint64(40, true)),
    blocks: Number(facts.getBigUint64(48, true)),
    rdev: deviceNumber(facts.getUint32(128, true), facts.getUint32(132, true)),
    dev: deviceNumber(facts.getUint32(136, true), facts.getUint32(140, true)),
    isFile: isKind(0o100000),
    isBlockDevice: isKind(0o060000),
    isCharacterDevice: isKind(0o020000),
    isDirectory: isKind(0o040000),
  }
}

/** As makedev(3) of glibc. */
function deviceNumber(major: number, minor: number): number {
  const high = BigInt(major & ~0xfff) << 32n
  const low = BigInt(major & 0xfff) << 8n
  return Number(high | (BigInt(minor & ~0xff) << 12n) | low | BigInt(minor & 0xff))
}

/** Whether there is nothing by a name: the one answer about names that is given here. */
function isMissing(path: unknown, flags: number): boolean {
  const bytes = pathBytes(path)
  const asked = cLibrary()
  if (bytes === undefined || asked?.symbols.statx === undefined) return false
  return asked.result(asked.symbols.statx(here, bytes, flags, basicStats, new Uint8Array(256))) === noEntry
}

function statOf(flags: number, otherwise: () => typeof nodeFs.statSync): typeof nodeFs.statSync {
  const stat = (path: nodeFs.PathLike, options?: nodeFs.StatSyncOptions) =>
    options?.throwIfNoEntry === false && isMissing(path, flags) ? undefined : otherwise()(path, options)
  return stat as typeof nodeFs.statSync
}

const statSync = statOf(0, () => whole().statSync)
const lstatSync = statOf(linkItself, () => whole().lstatSync)

function existsSync(path: nodeFs.PathLike): boolean {
  return !isMissing(path, 0) && whole().existsSync(path)
}

function readlinkSync(path: nodeFs.PathLike, options?: nodeFs.EncodingOption): string {
  const bytes = options === undefined ? pathBytes(path) : undefined
  const asked = bytes === undefined ? undefined : cLibrary()
  if (asked === undefined || bytes === undefined) return whole().readlinkSync(path, options)
  const result = asked.result(asked.symbols.readlink(bytes, new Uint8Array(1), 1))
  // Names of programs that are no links are looked at in each start.
  if (result === notThatKind || result === noEntry) {
    const [code, words] = result === noEntry ? ['ENOENT', 'no such file or directory'] : ['EINVAL', 'invalid argument']
    const message = `${code}: ${words}, readlink '${path}'`
    throw Object.assign(new Error(message), { code, errno: result, syscall: 'readlink', path })
  }
  return whole().readlinkSync(path)
}

function renameSync(from: nodeFs.PathLike, to: nodeFs.PathLike): void {
  const [old, fresh] = [pathBytes(from), pathBytes(to)]
  if (old !== undefined && fresh !== undefined && cLibrary()?.symbols.rename(old, fresh) === 0) return
  whole().renameSync(from, to)
}

const own: Record<PropertyKey, unknown> = {
  constants,
  openSync,
  closeSync,
  readSync,
  writeSync,
  ftruncateSync,
  fstatSync,
  statSync,
  lstatSync,
  existsSync,
  readlinkSync,
  renameSync,
}

/** `node:fs`, of which little is loaded. Its calls throw what those of Node throw. */
export default new Proxy(own, {
  get(known, name) {
    if (!(name in known)) known[name] = Reflect.get(whole(), name)
    return known[name]
  },
}) as unknown as typeof nodeFs
