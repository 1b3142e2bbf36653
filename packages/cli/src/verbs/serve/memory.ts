/** The memory of a process that serves: V8 and the C library are made for one program that has the machine, and a service shares it. */
import { createRequire } from 'node:module'
import { setFlagsFromString } from 'node:v8'

/** Bytes from which on a block of memory is one of the kernel's, and goes back to it when it is free. Below are the pieces in which bodies arrive, which come and go all the time. */
const ownBlockBytes = 128 * 1024
/** Heaps of the C library's. Each keeps what its threads have given back. */
const heaps = 2

/** The parameters of mallopt that are used. Source: glibc's malloc.h. */
const [trimThreshold, mmapThreshold, arenaMax] = [-1, -3, -8] as const

/** Called before the service is loaded. What cannot be had is left as it is. */
export function keepMemorySmall(): void {
  if (process.versions.bun !== undefined) return
  // Young objects are looked through when there is 1 MiB of them, and that stays so. Otherwise transfers, which make many and keep none, make it 16.
  setFlagsFromString('--semi-space-growth-factor=1')
  try {
    const { load } = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    const mallopt = load(null).func('int mallopt(int parameter, int value)')
    mallopt(arenaMax, heaps)
    // A fixed bound: glibc raises it to the largest block that was ever given back.
    mallopt(mmapThreshold, ownBlockBytes)
    mallopt(trimThreshold, ownBlockBytes)
  } catch {
    // Another C library, or none that can be reached.
  }
}
