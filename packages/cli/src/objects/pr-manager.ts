/** `pr-manager-helper`: a program that makes persistent reservations of SCSI disks for QEMU. qemu-img never asks it for one: it is only greeted. Protocol: QEMU's
 *  `docs/interop/pr-helper.rst`. */
import { isMoraineError } from '@moraine/engine'
import { connectTo } from '@moraine/nbd'
import { Failure } from '../failure.ts'

const patienceMs = 30_000

/** Greets the helper at this path of a UNIX socket.
 *  @throws Failure */
export async function reachHelper(path: string, signal: AbortSignal): Promise<void> {
  const place = { name: path, timeout: patienceMs, direct: false, signal }
  const { socket, receiver } = await connectTo({ type: 'unix', path }, place).catch((error: unknown) => {
    throw isMoraineError(error) ? new Failure(error.reason, { hint: error.hint }) : error
  })
  // Four bytes tell what it can do beyond the base; we ask for nothing of that.
  try {
    await receiver.fill(new Uint8Array(4))
    await new Promise<void>((resolve) => socket.end(new Uint8Array(4), resolve))
  } catch {
    throw new Failure('Unexpected end-of-file before all data were read')
  } finally {
    socket.destroy()
  }
}
