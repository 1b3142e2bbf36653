/** The Linux system calls that Node lacks, through koffi. koffi is optional and loaded at the first call that needs it, as loading takes
 *  a few ms; without it (not installed, another system, MORAINE_NATIVE=off) every caller has a portable way.
 *  Numbers and structures: Linux UAPI headers (fcntl.h, falloc.h, fs.h), the same on x64 and arm64. */
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

/** Flag of fallocate(2): the size stays as it is. */
export const fallocKeepSize = 0x01
/** Mode of fallocate(2): the range becomes a hole; wants `fallocKeepSize` too. */
export const fallocPunchHole = 0x02
/** Mode of fallocate(2): the range becomes zeros that keep their space. */
export const fallocZeroRange = 0x10

/** A range of bytes that a lock of another holder covers. */
export interface LockConflict {
  type: 'read' | 'write'
  start: number
  length: number
}

/** System calls. Those that return a promise run in koffi's own threads; the others are short. Each failure is the code, as in `ENOSPC`. */
export interface Native {
  /** lseek(2) with SEEK_DATA or SEEK_HOLE: the offset, or the code. It moves the file position, which nothing here uses. */
  seek(descriptor: number, offset: number, what: 'data' | 'hole'): number | string
  /** fallocate(2). */
  fallocate(descriptor: number, mode: number, offset: number, length: number): Promise<string | undefined>
  /** copy_file_range(2): the bytes copied, or the code. */
  copyFileRange(
    from: number,
    fromOffset: number,
    to: number,
    toOffset: number,
    length: number,
  ): Promise<number | string>
  /** fcntl(2) F_OFD_SETLK. */
  setLock(descriptor: number, type: 'read' | 'write' | 'none', start: number, length: number): string | undefined
  /** fcntl(2) F_OFD_GETLK for a write lock: what stands in its way, undefined when nothing does, or the code. */
  testLock(descriptor: number, start: number, length: number): LockConflict | string | undefined
  /** ioctl(2) BLKGETSIZE64: bytes, or the code. */
  deviceSize(descriptor: number): number | string
  /** ioctl(2) BLKSSZGET: bytes of a logical block, or the code. */
  blockSize(descriptor: number): number | string
  /** ioctl(2) BLKDISCARD. Offset and length in bytes, multiples of the logical block. */
  discardBlocks(descriptor: number, offset: number, length: number): Promise<string | undefined>
  /** ioctl(2) BLKZEROOUT. Offset and length in bytes, multiples of the logical block. */
  zeroBlocks(descriptor: number, offset: number, length: number): Promise<string | undefined>
}

let loaded: Native | null | undefined

/** The system calls, or undefined where they cannot be had. Loads koffi at the first call. */
export function native(): Native | undefined {
  if (loaded === undefined) loaded = load()
  return loaded ?? undefined
}

/** Whether holes, in-kernel copies, reservations and image locks are to be had here. Loads koffi at the first call. */
export function nativeAvailable(): boolean {
  return native() !== undefined
}

// The part of koffi's interface that is used here: the package is optional, so its types are not imported.
type Call = (...args: unknown[]) => unknown
interface ForeignFunction extends Call {
  async(...args: unknown[]): void
}
interface Koffi {
  load(path: string | null): { func(prototype: string): ForeignFunction }
  errno(): number
  os: { errno: Record<string, number> }
}

function load(): Native | null {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) return null
  if (process.env.MORAINE_NATIVE === 'off') return null
  const require = createRequire(import.meta.url)
  try {
    return bind(loadBinary(require) ?? (require('koffi') as Koffi))
  } catch {
    return null
  }
}

/** koffi's compiled part without its JavaScript, which only finds it and adds old names: about half the time (12 ms, measured), in every command that
 *  takes a lock or looks for holes. Undefined when anything is not as expected; koffi then loads itself. */
function loadBinary(require: NodeJS.Require): Koffi | undefined {
  try {
    const glibc = process.arch === 'x64' ? '/lib64/ld-linux-x86-64.so.2' : '/lib/ld-linux-aarch64.so.1'
    const musl = process.arch === 'x64' ? '/lib/ld-musl-x86_64.so.1' : '/lib/ld-musl-aarch64.so.1'
    // koffi has a binary for either C library, and only its own loader tells for sure where both are installed.
    if (!fs.existsSync(glibc) || fs.existsSync(musl)) return undefined
    const binaries = createRequire(require.resolve('koffi')).resolve(`@koromix/koffi-linux-${process.arch}`)
    const module: { exports: Partial<Koffi> } = { exports: {} }
    process.dlopen(module, path.join(path.dirname(binaries), `linux_${process.arch}`, 'koffi.node'))
    const { load, errno, os } = module.exports
    return load === undefined || errno === undefined || os === undefined ? undefined : { load, errno, os }
  } catch {
    return undefined
  }
}

const seekData = 3
const seekHole = 4
const fOfdGetlk = 36
const fOfdSetlk = 37
const lockTypes = { read: 0, write: 1, none: 2 } as const
const blkGetSize64 = 0x80081272
const blkSszGet = 0x1268
const blkDiscard = 0x1277
const blkZeroOut = 0x127f
// koffi refuses more than 256 asynchronous calls at once.
const mostAtOnce = 64

function bind(koffi: Koffi): Native {
  const libc = koffi.load(null)
  const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)')
  const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')
  const copyFileRange = libc.func(
    'int64_t copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t length, uint32_t flags)',
  )
  // Variadic in C; the calling conventions of x64 and arm64 Linux pass a third pointer the same way without.
  const fcntl = libc.func('int fcntl(int fd, int command, void *argument)')
  const ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)')

  const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]))
  names.set(koffi.os.errno.EOPNOTSUPP ?? 95, 'EOPNOTSUPP')
  names.set(11, 'EAGAIN')
  names.set(122, 'EDQUOT')
  const lastError = () => names.get(koffi.errno()) ?? `errno ${koffi.errno()}`

  let running = 0
  const waiting: (() => void)[] = []
  async function later(call: ForeignFunction, args: readonly unknown[]): Promise<number> {
    while (running >= mostAtOnce) await new Promise<void>((resolve) => waiting.push(resolve))
    running++
    try {
      return await new Promise<number>((resolve, reject) => {
        call.async(...args, (error: unknown, result: unknown) => (error ? reject(error) : resolve(Number(result))))
      })
    } finally {
      running--
      waiting.shift()?.()
    }
  }

  /** errno belongs to the thread that made the call, which is gone. So a failed call is made again here, to hear why; with luck it
   *  succeeds. `again` may be a smaller call, as it blocks. */
  async function laterWithReason(
    call: ForeignFunction,
    args: readonly unknown[],
    again = args,
  ): Promise<number | string> {
    for (;;) {
      let result = await later(call, args)
      if (result >= 0) return result
      result = Number(call(...again))
      if (result >= 0) return result
      const code = lastError()
      if (code !== 'EINTR') return code
    }
  }

  const flock = (type: keyof typeof lockTypes, start: number, length: number) => {
    // struct flock: short type, short whence (SEEK_SET), 4 bytes of padding, int64 start, int64 length, int32 pid.
    const view = new DataView(new ArrayBuffer(32))
    view.setInt16(0, lockTypes[type], true)
    view.setBigInt64(8, BigInt(start), true)
    view.setBigInt64(16, BigInt(length), true)
    return view
  }
  const bytesOf = (view: DataView) => new Uint8Array(view.buffer)
  const failure = (result: number | string) => (typeof result === 'string' ? result : undefined)
  const range = (offset: number, length: number) => new BigUint64Array([BigInt(offset), BigInt(length)])

  return {
    seek(descriptor, offset, what) {
      const result = Number(lseek(descriptor, offset, what === 'data' ? seekData : seekHole))
      return result >= 0 ? result : lastError()
    },
    async fallocate(descriptor, mode, offset, length) {
      return failure(await laterWithReason(fallocate, [descriptor, mode, offset, length]))
    },
    copyFileRange(from, fromOffset, to, toOffset, length) {
      const at = () => [new BigInt64Array([BigInt(fromOffset)]), new BigInt64Array([BigInt(toOffset)])]
      const [here, there] = at()
      const [hereAgain, thereAgain] = at()
      const small = Math.min(length, 1024 * 1024)
      return laterWithReason(
        copyFileRange,
        [from, here, to, there, length, 0],
        [from, hereAgain, to, thereAgain, small, 0],
      )
    },
    setLock(descriptor, type, start, length) {
      const result = Number(fcntl(descriptor, fOfdSetlk, bytesOf(flock(type, start, length))))
      return result === 0 ? undefined : lastError()
    },
    testLock(descriptor, start, length) {
      const lock = flock('write', start, length)
      if (Number(fcntl(descriptor, fOfdGetlk, bytesOf(lock))) !== 0) return lastError()
      const type = lock.getInt16(0, true)
      if (type === lockTypes.none) return undefined
      return {
        type: type === lockTypes.read ? 'read' : 'write',
        start: Number(lock.getBigInt64(8, true)),
        length: Number(lock.getBigInt64(16, true)),
      }
    },
    deviceSize(descriptor) {
      const size = new BigUint64Array(1)
      return Number(ioctl(descriptor, blkGetSize64, size)) === 0 ? Number(size[0]) : lastError()
    },
    blockSize(descriptor) {
      const size = new Int32Array(1)
      return Number(ioctl(descriptor, blkSszGet, size)) === 0 ? (size[0] ?? 512) : lastError()
    },
    async discardBlocks(descriptor, offset, length) {
      return failure(await laterWithReason(ioctl, [descriptor, blkDiscard, range(offset, length)]))
    },
    async zeroBlocks(descriptor, offset, length) {
      return failure(await laterWithReason(ioctl, [descriptor, blkZeroOut, range(offset, length)]))
    },
  }
}
