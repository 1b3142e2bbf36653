/** Functions of the C library, bound by bun:ffi. The binding takes no measurable time (under 0.1 ms for all of them), as Bun has it compiled in. */
import { dlopen, read } from 'bun:ffi'

/** By this name musl, too, gives itself. */
const libraryName = 'libc.so.6'

const functions = {
  __errno_location: { args: [], returns: 'ptr' },
  lseek: { args: ['i32', 'i64_fast', 'i32'], returns: 'i64_fast' },
  fallocate: { args: ['i32', 'i32', 'i64_fast', 'i64_fast'], returns: 'i32' },
  copy_file_range: { args: ['i32', 'ptr', 'i32', 'ptr', 'u64_fast', 'u32'], returns: 'i64_fast' },
  // Variadic in C; the calling conventions of x64 and arm64 Linux pass a number or pointer the same way without.
  fcntl: { args: ['i32', 'i32', 'ptr'], returns: 'i32' },
  ioctl: { args: ['i32', 'u64_fast', 'ptr'], returns: 'i32' },
  syscall: { args: ['i64_fast', 'i64_fast', 'i64_fast', 'ptr', 'u64_fast', 'i64_fast'], returns: 'i64_fast' },
  openat: { args: ['i32', 'ptr', 'i32', 'u32'], returns: 'i32' },
  close: { args: ['i32'], returns: 'i32' },
  read: { args: ['i32', 'ptr', 'u64_fast'], returns: 'i64_fast' },
  pread: { args: ['i32', 'ptr', 'u64_fast', 'i64_fast'], returns: 'i64_fast' },
  write: { args: ['i32', 'ptr', 'u64_fast'], returns: 'i64_fast' },
  pwrite: { args: ['i32', 'ptr', 'u64_fast', 'i64_fast'], returns: 'i64_fast' },
  ftruncate: { args: ['i32', 'i64_fast'], returns: 'i32' },
  readlink: { args: ['ptr', 'ptr', 'u64_fast'], returns: 'i64_fast' },
  rename: { args: ['ptr', 'ptr'], returns: 'i32' },
} as const

/** musl has it only since 1.2.5. */
const statxToo = { ...functions, statx: { args: ['i32', 'ptr', 'i32', 'u32', 'ptr'], returns: 'i32' } } as const

type Functions = ReturnType<typeof dlopen<keyof typeof functions>>['symbols']
type StatxToo = Functions & Partial<ReturnType<typeof dlopen<keyof typeof statxToo>>['symbols']>

function bound(): StatxToo {
  try {
    return dlopen(libraryName, statxToo).symbols
  } catch {
    return dlopen(libraryName, functions).symbols
  }
}

function open() {
  const symbols = bound()
  // It is the thread's own, and so is what a module knows: each worker opens the library for itself.
  const errno = symbols.__errno_location()
  return {
    symbols,
    /** A call's result, or minus the number of the error. Nothing stands between the call and the look at errno that could make another system call. */
    result: (returned: number): number => (returned >= 0 ? returned : -read.i32(errno)),
  }
}

/** The C library. */
export type CLibrary = ReturnType<typeof open>

let opened: CLibrary | null | undefined

/** The C library, opened at the first call; undefined on other systems than Linux. */
export function cLibrary(): CLibrary | undefined {
  if (opened === undefined) {
    try {
      opened = open()
    } catch {
      opened = null
    }
  }
  return opened ?? undefined
}
