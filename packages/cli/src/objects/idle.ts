/** Objects of `--object` that change nothing here: what QEMU's classes refuse, in the words of qemu-img 7.2. */
import { existsSync, readFileSync } from 'node:fs'
import { Failure } from '../failure.ts'
import type { Objects } from './objects.ts'

/** `main-loop`: how many requests QEMU sends at once, and its pool of threads. There is one.
 *  @throws Failure */
export function checkMainLoop(
  values: { 'aio-max-batch'?: number; 'thread-pool-min'?: number; 'thread-pool-max'?: number },
  { objects }: { objects: Objects },
): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === 'number' && value < 0) {
      throw new Failure(`${name} value must be in range [0, 9223372036854775807]`)
    }
  }
  const { 'thread-pool-min': least = 0, 'thread-pool-max': most = 64 } = values
  if (most === 0 || most > 0x7fff_ffff || least > most) {
    throw new Failure('bad thread-pool-min/thread-pool-max values')
  }
  if ([...objects.kinds.values()].includes('main-loop')) throw new Failure('only one main-loop instance allowed')
}

/** `tls-cipher-suites`: for firmware of a guest.
 *  @throws Failure */
export function checkCipherSuites({ priority }: { priority?: string }): void {
  if (priority === undefined) throw new Failure("'priority' property is not set")
}

const processors = '/sys/devices/system/cpu/online'
const nodes = '/sys/devices/system/node'

/** `thread-context`: the processors of threads that QEMU makes for memory of a guest.
 *  @throws Failure */
export function checkThreadContext({
  'cpu-affinity': cpus,
  'node-affinity': near,
}: {
  'cpu-affinity'?: number[]
  'node-affinity'?: number[]
}): void {
  if (cpus?.length === 0) throw new Failure('CPU list is empty')
  if (near?.length === 0) throw new Failure('Node list is empty')
  if (cpus !== undefined && near !== undefined) throw new Failure('Mixing CPU and node affinity not supported')
  if (near?.some((node) => existsSync(`${nodes}/node${node}`)) === false) {
    throw new Failure('The nodes select no CPUs')
  }
  if (cpus !== undefined && existsSync(processors)) {
    const online = readList(readFileSync(processors, 'latin1'))
    if (!cpus.some(online)) throw new Failure('Setting CPU affinity failed: Invalid argument')
  }
}

/** Whether a number is among those of a list such as `0-3,8`, as the kernel writes it. */
function readList(text: string): (number: number) => boolean {
  const ranges = text
    .trim()
    .split(',')
    .map((range) => range.split('-').map(Number))
  return (number) => ranges.some(([first = 0, last = first]) => number >= first && number <= last)
}
