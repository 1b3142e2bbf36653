/** The kernel's key rings: keyrings(7). */
import { native } from './native.ts'

/** What the key of a serial number holds (a serial number below 0 is one of the special key rings), or the code of the error, as in `ENOKEY`; `ENOSYS` where system calls cannot be had. */
export function readKey(serial: number): Uint8Array | string {
  return native()?.readKey(serial) ?? 'ENOSYS'
}
