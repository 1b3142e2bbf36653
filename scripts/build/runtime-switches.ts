/** Takes out of Bun's runtime the names of environment variables by which whoever calls a standalone executable would make another program of it. Bun has no option for that. */

/** What makes it Bun itself, gives it arguments (a module to run first), opens a debugger, or writes files. */
const switches = [
  'BUN_BE_BUN',
  'BUN_OPTIONS',
  'BUN_INSPECT',
  'BUN_INSPECT_CONNECT_TO',
  'BUN_INSPECT_PRELOAD',
  'BUN_BYTECODE_ORDER_OUT',
  'BUN_BYTECODE_ORDER_NAMES_OUT',
  'BUN_BYTECODE_DIGEST_OUT',
]

/** The runtime as it asks for variables of no name instead, which nobody can set. The names stand in it as C has them, with a zero before and behind.
 *  @throws Error when one is not there exactly once: this is another Bun, to be looked at. */
export function withoutSwitches(runtime: Buffer): Buffer {
  const changed = Buffer.from(runtime)
  for (const name of switches) {
    const whole = `\0${name}\0`
    const at = runtime.indexOf(whole, 'latin1')
    if (at < 0 || runtime.indexOf(whole, at + 1, 'latin1') >= 0) {
      throw new Error(`Bun's runtime does not ask for ${name} as it did`)
    }
    changed[at + 1] = 0
  }
  return changed
}
