/** The C library through bun:ffi: `#libc` under Bun, and so in the standalone executable. (koffi's binary would have to be unpacked to a file first.)
 *
 *  Calls are made in the thread that asks: bun:ffi knows no others. So long ones are made in pieces, and between them, every few milliseconds, the event loop has its
 *  turn: signals are seen, a service answers. */
import { dlopen, read } from 'bun:ffi'
import type { LibC } from '../node/libc.ts'

// About 5 ms of copying within the page cache.
const copyPiece = 32 * 1024 * 1024
const rangePiece = 1024 * 1024 * 1024
const eintr = 4
const turnMs = 5

/** The C library; undefined where it has another name than glibc's. */
export function openLibC(): LibC | undefined {
  try {
    return bind()
  } catch {
    return undefined
  }
}

function bind(): LibC {
  const { symbols } = dlopen('libc.so.6', {
    __errno_location: { args: [], returns: 'ptr' },
    lseek: { args: ['i32', 'i64_fast', 'i32'], returns: 'i64_fast' },
    fallocate: { args: ['i32', 'i32', 'i64_fast', 'i64_fast'], returns: 'i32' },
    copy_file_range: { args: ['i32', 'ptr', 'i32', 'ptr', 'u64_fast', 'u32'], returns: 'i64_fast' },
    // Variadic in C; the calling conventions of x64 and arm64 Linux pass a third pointer the same way without.
    fcntl: { args: ['i32', 'i32', 'ptr'], returns: 'i32' },
    ioctl: { args: ['i32', 'u64_fast', 'ptr'], returns: 'i32' },
  })
  // It is the thread's own, and so is what a module knows: each worker opens the library for itself.
  const errno = symbols.__errno_location()

  /** Nothing stands between the call and the look at errno that could make another system call. */
  const result = (returned: number): number => (returned >= 0 ? returned : -read.i32(errno))

  function persist(call: () => number): number {
    for (;;) {
      const done = result(call())
      if (done !== -eintr) return done
    }
  }

  let turn = performance.now()
  async function letOthers(): Promise<void> {
    if (performance.now() - turn < turnMs) return
    await new Promise((resolve) => setImmediate(resolve))
    turn = performance.now()
  }

  async function inPieces(
    offset: number,
    length: number,
    call: (offset: number, length: number) => number,
  ): Promise<number> {
    for (let done = 0; done < length || done === 0; done += rangePiece) {
      const piece = Math.min(rangePiece, length - done)
      const failed = persist(() => call(offset + done, piece))
      if (failed < 0) return failed
      await letOthers()
    }
    return 0
  }

  const places = new BigInt64Array(2)
  const here = places.subarray(0, 1)
  const there = places.subarray(1)
  return {
    lseek: (descriptor, offset, whence) => result(symbols.lseek(descriptor, offset, whence)),
    fcntl: (descriptor, command, argument) => result(symbols.fcntl(descriptor, command, argument)),
    ioctl: (descriptor, request, argument) => result(symbols.ioctl(descriptor, request, argument)),
    ioctlRange: (descriptor, request, offset, length) =>
      inPieces(offset, length, (at, piece) =>
        symbols.ioctl(descriptor, request, new BigUint64Array([BigInt(at), BigInt(piece)])),
      ),
    fallocate: (descriptor, mode, offset, length) =>
      inPieces(offset, length, (at, piece) => symbols.fallocate(descriptor, mode, at, piece)),
    async copyFileRange(from, fromOffset, to, toOffset, length) {
      const copied = persist(() => {
        here[0] = BigInt(fromOffset)
        there[0] = BigInt(toOffset)
        return symbols.copy_file_range(from, here, to, there, Math.min(length, copyPiece), 0)
      })
      await letOthers()
      return copied
    },
  }
}

/** Where the standalone executable keeps the modules that were compiled into it. */
const embedded = 'file:///$bunfs/root/'

/** The module of a worker thread: in the executable by its place under `packages` (scripts/build-binary.ts), otherwise by the package's own map. */
export function workerEntry(): URL {
  const inside = import.meta.url.startsWith(embedded)
  return new URL(
    inside ? `${embedded}engine/src/platform/node/worker-main.js` : import.meta.resolve('@moraine/engine/worker'),
  )
}
