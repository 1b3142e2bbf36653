/** The C library through bun:ffi: `#libc` under Bun, and so in the standalone executable. (koffi's binary would have to be unpacked to a file first.)
 *
 *  Calls are made in the thread that asks: bun:ffi knows no others. So long ones are made in pieces, and between them, every few milliseconds, the event loop has its
 *  turn: signals are seen, a service answers. */
import { keyctlNumber, type LibC } from '../node/libc.ts'
import { type CLibrary, cLibrary } from './c-library.ts'

// About 5 ms of copying within the page cache.
const copyPiece = 32 * 1024 * 1024
const rangePiece = 1024 * 1024 * 1024
const eintr = 4
const turnMs = 5

/** The C library; undefined on other systems than Linux. */
export function openLibC(): LibC | undefined {
  const library = cLibrary()
  return library === undefined ? undefined : bind(library)
}

function bind({ symbols, result }: CLibrary): LibC {
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
    keyctl: (operation, serial, into) => result(symbols.syscall(keyctlNumber, operation, serial, into, into.length, 0)),
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
