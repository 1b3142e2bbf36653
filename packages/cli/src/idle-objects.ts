/** Objects of `--object` that are taken and change nothing here: their properties are checked, in the words of qemu-img 7.2. */
import { Failure } from './failure.ts'
import { readInteger } from './numbers.ts'
import { type Properties, refuseLeft, take } from './object-properties.ts'

/** `main-loop`: how many requests QEMU sends at once, and its pool of threads.
 *  @throws Failure */
export function readMainLoop(properties: Properties): void {
  const [batch, least = 0, most = 64] = ['aio-max-batch', 'thread-pool-min', 'thread-pool-max'].map((name) => {
    const text = take(properties, name)
    const value = text === undefined ? undefined : readInteger(text)
    if (text !== undefined && (value === undefined || Math.abs(value) > 2 ** 63)) {
      throw new Failure(`Parameter '${name}' expects integer`)
    }
    return value
  })
  refuseLeft(properties)
  for (const [name, value] of [
    ['aio-max-batch', batch],
    ['thread-pool-min', least],
    ['thread-pool-max', most],
  ] as const) {
    if (value !== undefined && value < 0) {
      throw new Failure(`${name} value must be in range [0, 9223372036854775807]`)
    }
  }
  if (most === 0 || most > 0x7fff_ffff || least > most) {
    throw new Failure('bad thread-pool-min/thread-pool-max values')
  }
}

/** `tls-cipher-suites`: for firmware of a guest.
 *  @throws Failure */
export function readCipherSuites(properties: Properties): void {
  take(properties, 'dir')
  const endpoint = take(properties, 'endpoint')
  const verify = take(properties, 'verify-peer')
  const priority = take(properties, 'priority')
  if (verify !== undefined && verify !== 'on' && verify !== 'off') {
    throw new Failure("Parameter 'verify-peer' expects 'on' or 'off'")
  }
  if (endpoint !== undefined && endpoint !== 'client' && endpoint !== 'server') {
    throw new Failure(`Parameter 'endpoint' does not accept value '${endpoint}'`)
  }
  refuseLeft(properties)
  if (priority === undefined) throw new Failure("'priority' property is not set")
}

/** Kinds that QEMU's schema has and qemu-img has not, with what each takes. */
const absent: Readonly<Record<string, readonly string[]>> = {
  iothread: ['aio-max-batch', 'poll-grow', 'poll-max-ns', 'poll-shrink', 'thread-pool-max', 'thread-pool-min'],
  'can-bus': [],
  'rng-builtin': ['opened'],
  'rng-random': ['filename', 'opened'],
  's390-pv-guest': [],
}

/** Whether QEMU's schema knows a kind that qemu-img cannot make. */
export function isAbsent(kind: string): boolean {
  return Object.hasOwn(absent, kind)
}

/** Refuses such a kind.
 *  @throws Failure always */
export function refuseAbsent(kind: string, properties: Properties): never {
  for (const name of absent[kind] ?? []) properties.delete(name)
  refuseLeft(properties)
  throw new Failure(`invalid object type: ${kind}`)
}
