/** The Linux system calls that Node lacks. They come from the C library (`#libc`: through koffi under Node, through bun:ffi under Bun), which is opened at the
 *  first call that needs it, as that takes a few ms; without it (koffi not installed, another system, MORAINE_NATIVE=off) every caller has a portable way.
 *  Numbers and structures: Linux UAPI headers (fcntl.h, falloc.h, fs.h), the same on x64 and arm64. */
import { openLibC } from '#libc'
import type { LibC } from './libc.ts'

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

/** System calls. Those that return a promise may take long and do not hold up the event loop; the others are short. Each failure is the code, as in `ENOSPC`. */
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
  /** ioctl(2) FS_IOC_SETFLAGS: turns copy-on-write off for an empty file of Btrfs. */
  stopCopyOnWrite(descriptor: number): string | undefined
  /** ioctl(2) FS_IOC_FSSETXATTR: the bytes by which an empty file of XFS shall grow on the disk, above 0. */
  setExtentSize(descriptor: number, bytes: number): string | undefined
  /** keyctl(2) KEYCTL_READ: what the key of a serial number holds, or the code. */
  readKey(serial: number): Uint8Array | string
  /** ioctl(2) BLKDISCARD. Offset and length in bytes, multiples of the logical block. */
  discardBlocks(descriptor: number, offset: number, length: number): Promise<string | undefined>
  /** ioctl(2) BLKZEROOUT. Offset and length in bytes, multiples of the logical block. */
  zeroBlocks(descriptor: number, offset: number, length: number): Promise<string | undefined>
}

let loaded: Native | null | undefined

/** The system calls, or undefined where they cannot be had. Opens the C library at the first call. */
export function native(): Native | undefined {
  if (loaded === undefined) loaded = load()
  return loaded ?? undefined
}

/** Whether holes, in-kernel copies, reservations and image locks are to be had here. Opens the C library at the first call. */
export function nativeAvailable(): boolean {
  return native() !== undefined
}

function load(): Native | null {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) return null
  if (process.env.MORAINE_NATIVE === 'off') return null
  const libc = openLibC()
  return libc === undefined ? null : bind(libc)
}

const seekData = 3
const seekHole = 4
const fOfdGetlk = 36
const fOfdSetlk = 37
const lockTypes = { read: 0, write: 1, none: 2 } as const
const blkGetSize64 = 0x80081272
const blkSszGet = 0x1268
const getFlags = 0x80086601
const setFlags = 0x40086602
const noCopyOnWrite = 0x800000
const getAttributes = 0x801c581f
const setAttributes = 0x401c5820
const hasExtentSize = 0x800
const keyctlRead = 11
/** The most that a key of the type `user` holds. */
const userKeyBytes = 32_767
const blkDiscard = 0x1277
const blkZeroOut = 0x127f
let errorNames: Map<number, string> | undefined

/** The code of a result that is minus the number of an error; undefined when it is none. */
function codeOf(result: number): string | undefined {
  if (result >= 0) return undefined
  errorNames ??= new Map([
    ...Object.entries(process.getBuiltinModule('node:os').constants.errno).map(
      ([name, number]) => [number, name] as const,
    ),
    // Of two names for one number, those that the kernel's manual pages use.
    [11, 'EAGAIN'],
    [95, 'EOPNOTSUPP'],
    // Those of keyrings(7), which Node does not name.
    [126, 'ENOKEY'],
    [127, 'EKEYEXPIRED'],
    [128, 'EKEYREVOKED'],
    [129, 'EKEYREJECTED'],
  ])
  return errorNames.get(-result) ?? `errno ${-result}`
}

function bind(libc: LibC): Native {
  const flock = (type: keyof typeof lockTypes, start: number, length: number) => {
    // struct flock: short type, short whence (SEEK_SET), 4 bytes of padding, int64 start, int64 length, int32 pid.
    const view = new DataView(new ArrayBuffer(32))
    view.setInt16(0, lockTypes[type], true)
    view.setBigInt64(8, BigInt(start), true)
    view.setBigInt64(16, BigInt(length), true)
    return view
  }
  const bytesOf = (view: DataView) => new Uint8Array(view.buffer)

  return {
    seek(descriptor, offset, what) {
      const result = libc.lseek(descriptor, offset, what === 'data' ? seekData : seekHole)
      return codeOf(result) ?? result
    },
    async fallocate(descriptor, mode, offset, length) {
      return codeOf(await libc.fallocate(descriptor, mode, offset, length))
    },
    async copyFileRange(from, fromOffset, to, toOffset, length) {
      const result = await libc.copyFileRange(from, fromOffset, to, toOffset, length)
      return codeOf(result) ?? result
    },
    setLock(descriptor, type, start, length) {
      return codeOf(libc.fcntl(descriptor, fOfdSetlk, bytesOf(flock(type, start, length))))
    },
    testLock(descriptor, start, length) {
      const lock = flock('write', start, length)
      const code = codeOf(libc.fcntl(descriptor, fOfdGetlk, bytesOf(lock)))
      if (code !== undefined) return code
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
      return codeOf(libc.ioctl(descriptor, blkGetSize64, size)) ?? Number(size[0])
    },
    blockSize(descriptor) {
      const size = new Int32Array(1)
      return codeOf(libc.ioctl(descriptor, blkSszGet, size)) ?? size[0] ?? 512
    },
    stopCopyOnWrite(descriptor) {
      // Named for a long; the kernel reads and writes an int.
      const flags = new Int32Array(2)
      const code = codeOf(libc.ioctl(descriptor, getFlags, flags))
      flags[0] = (flags[0] as number) | noCopyOnWrite
      return code ?? codeOf(libc.ioctl(descriptor, setFlags, flags))
    },
    setExtentSize(descriptor, bytes) {
      // struct fsxattr: u32 xflags, extsize, nextents, projid, cowextsize, 8 bytes of padding.
      const attributes = new Int32Array(7)
      const code = codeOf(libc.ioctl(descriptor, getAttributes, attributes))
      attributes[0] = (attributes[0] as number) | hasExtentSize
      attributes[1] = bytes
      return code ?? codeOf(libc.ioctl(descriptor, setAttributes, attributes))
    },
    readKey(serial) {
      // Nothing is written where there is not room for all, and the length is told all the same.
      for (let room = userKeyBytes; ; ) {
        const bytes = new Uint8Array(room)
        const length = libc.keyctl(keyctlRead, serial, bytes)
        if (length <= room) return codeOf(length) ?? bytes.subarray(0, length)
        room = length
      }
    },
    async discardBlocks(descriptor, offset, length) {
      return codeOf(await libc.ioctlRange(descriptor, blkDiscard, offset, length))
    },
    async zeroBlocks(descriptor, offset, length) {
      return codeOf(await libc.ioctlRange(descriptor, blkZeroOut, offset, length))
    },
  }
}
