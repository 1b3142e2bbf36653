/** Signals. Imported before anything else: until somebody listens, SIGUSR1 makes Node open its debugger. */
import { closeSync, openSync, readSync } from 'node:fs'

const stop = new AbortController()
const reporters = new Set<() => void>()
const reloaders = new Set<() => void>()
let received: NodeJS.Signals | undefined

/** Fires on the first SIGINT, SIGTERM or SIGHUP (but see `onReloadRequest`) that the caller has not switched off; the second one ends the process as it stands. */
export const stopSignal: AbortSignal = stop.signal

/** The signal that stopped the process, if one did. */
export function stoppedBy(): NodeJS.Signals | undefined {
  return received
}

/** Calls `report` whenever somebody asks for progress (SIGUSR1; SIGINFO too where there is one). Returns how to end that. */
export function onProgressRequest(report: () => void): () => void {
  reporters.add(report)
  return () => reporters.delete(report)
}

/** Calls `reload` on SIGHUP, which ends nothing then, also where the caller has switched it off. Returns how to end that. */
export function onReloadRequest(reload: () => void): () => void {
  reloaders.add(reload)
  if (!process.listeners('SIGHUP').includes(end)) process.on('SIGHUP', end)
  return () => reloaders.delete(reload)
}

const askForProgress = (): void => {
  for (const report of reporters) report()
}

process.on('SIGUSR1', askForProgress)
if (process.platform === 'darwin' || process.platform === 'freebsd') process.on('SIGINFO', askForProgress)

/** Signals that end the command, with their numbers, the same on all systems. */
const endings = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const
const namesOfEndings = Object.keys(endings) as (keyof typeof endings)[]

const end = (signal: NodeJS.Signals): void => {
  if (signal === 'SIGHUP' && reloaders.size > 0) {
    for (const reload of reloaders) reload()
    return
  }
  received = signal
  for (const name of namesOfEndings) process.removeListener(name, end)
  stop.abort(new Error(signal))
}

/** Whether who called us has switched a signal off, as nohup does with SIGHUP and a shell's `&` with SIGINT: ignored or blocked, it ends no program that does not ask for it.
 *  (Node itself forgets that when it starts, and nothing of it can be known here.) */
function switchedOff(): (name: keyof typeof endings) => boolean {
  // Bit 0 is signal 1; the last eight digits have the first 32.
  const masks = [...statusText().matchAll(/^Sig(?:Blk|Ign):\s*[0-9a-f]*([0-9a-f]{8})$/gm)]
  const off = masks.reduce((all, [, mask = '0']) => all | Number.parseInt(mask, 16), 0)
  return (name) => ((off >>> (endings[name] - 1)) & 1) === 1
}

/** What the kernel says of this process; nothing where it does not. */
function statusText(): string {
  try {
    const file = openSync('/proc/self/status', 'r')
    try {
      const bytes = new Uint8Array(4096)
      return new TextDecoder().decode(bytes.subarray(0, readSync(file, bytes)))
    } finally {
      closeSync(file)
    }
  } catch {
    return ''
  }
}

const isOff = switchedOff()
for (const name of namesOfEndings) if (!isOff(name)) process.on(name, end)

/** Ends the process by the signal that stopped it, so that the caller sees how it ended (a shell says 128 + its number). */
export function endBySignal(signal: NodeJS.Signals): void {
  process.kill(process.pid, signal)
}
