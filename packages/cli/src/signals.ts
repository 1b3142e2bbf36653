/** Signals. Imported before anything else: until somebody listens, SIGUSR1 makes Node open its debugger. */

const stop = new AbortController()
const reporters = new Set<() => void>()
const reloaders = new Set<() => void>()
let received: NodeJS.Signals | undefined

/** Fires on the first SIGINT, SIGTERM or SIGHUP (but see `onReloadRequest`); the second one ends the process as it stands. */
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

/** Calls `reload` on SIGHUP, which ends nothing then. Returns how to end that. */
export function onReloadRequest(reload: () => void): () => void {
  reloaders.add(reload)
  return () => reloaders.delete(reload)
}

const askForProgress = (): void => {
  for (const report of reporters) report()
}

process.on('SIGUSR1', askForProgress)
if (process.platform === 'darwin' || process.platform === 'freebsd') process.on('SIGINFO', askForProgress)

const endings: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']

const end = (signal: NodeJS.Signals): void => {
  if (signal === 'SIGHUP' && reloaders.size > 0) {
    for (const reload of reloaders) reload()
    return
  }
  received = signal
  for (const name of endings) process.removeListener(name, end)
  stop.abort(new Error(signal))
}
for (const name of endings) process.on(name, end)

/** Ends the process by the signal that stopped it, so that the caller sees how it ended (a shell says 128 + its number). */
export function endBySignal(signal: NodeJS.Signals): void {
  process.kill(process.pid, signal)
}
