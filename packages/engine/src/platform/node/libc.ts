/** The functions of the C library that make the system calls which the runtime lacks: `#libc`, by runtime. */

/** Functions of the C library, bound. Each result is the system call's own, or minus the number of the error. Offsets and lengths are bytes. Those that
 *  return a promise may take long. */
export interface LibC {
  lseek(descriptor: number, offset: number, whence: number): number
  fcntl(descriptor: number, command: number, argument: Uint8Array): number
  ioctl(descriptor: number, request: number, argument: BigUint64Array | Int32Array): number
  /** keyctl(2), for which the C library has no function of its own. */
  keyctl(operation: number, serial: number, into: Uint8Array): number
  /** An ioctl whose argument is two 64-bit numbers, offset and length. */
  ioctlRange(descriptor: number, request: number, offset: number, length: number): Promise<number>
  fallocate(descriptor: number, mode: number, offset: number, length: number): Promise<number>
  /** May copy less than it is asked to. */
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): Promise<number>
}

/** The number of keyctl(2), which is made by syscall(2). */
export const keyctlNumber = process.arch === 'arm64' ? 219 : 250
