/** The C library through koffi: `#libc` under Node. koffi is optional. */
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { keyctlNumber, type LibC } from './libc.ts'

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

/** The C library; undefined where koffi is not installed or does not load. */
export function openLibC(): LibC | undefined {
  const require = createRequire(import.meta.url)
  try {
    return bind(loadBinary(require) ?? (require('koffi') as Koffi))
  } catch {
    return undefined
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

// koffi refuses more than 256 asynchronous calls at once.
const mostAtOnce = 64
const eintr = 4

function bind(koffi: Koffi): LibC {
  const libc = koffi.load(null)
  const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)')
  const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')
  const copyFileRange = libc.func(
    'int64_t copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t length, uint32_t flags)',
  )
  // Variadic in C; the calling conventions of x64 and arm64 Linux pass a third pointer the same way without.
  const fcntl = libc.func('int fcntl(int fd, int command, void *argument)')
  const ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)')

  const syscall = libc.func(
    'long syscall(long number, long operation, long serial, void *into, size_t length, long unused)',
  )

  function now(call: ForeignFunction, args: readonly unknown[]): number {
    const result = Number(call(...args))
    return result >= 0 ? result : -koffi.errno()
  }

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
  async function laterWithReason(call: ForeignFunction, args: readonly unknown[], again = args): Promise<number> {
    for (;;) {
      let result = await later(call, args)
      if (result >= 0) return result
      result = now(call, again)
      if (result !== -eintr) return result
    }
  }

  return {
    lseek: (descriptor, offset, whence) => now(lseek, [descriptor, offset, whence]),
    fcntl: (descriptor, command, argument) => now(fcntl, [descriptor, command, argument]),
    ioctl: (descriptor, request, argument) => now(ioctl, [descriptor, request, argument]),
    keyctl: (operation, serial, into) => now(syscall, [keyctlNumber, operation, serial, into, into.length, 0]),
    ioctlRange(descriptor, request, offset, length) {
      const range = new BigUint64Array([BigInt(offset), BigInt(length)])
      return laterWithReason(ioctl, [descriptor, request, range])
    },
    fallocate: (descriptor, mode, offset, length) => laterWithReason(fallocate, [descriptor, mode, offset, length]),
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
  }
}

/** The file of a worker thread, by the package's own map: `.ts` in the sources, `.js` in what is built, wherever this module ended up. */
export function workerEntry(): string {
  return createRequire(import.meta.url).resolve('@moraine/engine/worker')
}
