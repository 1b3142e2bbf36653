/** Arguments that several verbs below `ova` take. */
import type { NewNic } from '@moraine/engine'
import { Failure } from '../failure.ts'
import { readInteger, readSize } from '../numbers.ts'

const MiB = 1024 * 1024

/** `--cpus`.
 *  @throws Failure */
export function readCpus(text: string): number {
  const value = readInteger(text)
  if (value !== undefined && value >= 1 && value <= 1024) return value
  throw new Failure(`Invalid number of processors '${text}': 1 to 1024 are possible`)
}

/** `--memory`: bytes.
 *  @throws Failure */
export function readMemory(text: string, warn: (message: string) => void): number {
  const size = readSize('memory', text, warn)
  if (size >= BigInt(MiB) && size % BigInt(MiB) === 0n && size <= BigInt(64 * 1024 ** 4)) return Number(size)
  throw new Failure(`Invalid memory '${text}': whole MiB are possible, as 4G or 512M`)
}

/** `--nic`: NETWORK[,model=MODEL].
 *  @throws Failure */
export function readNic(text: string): NewNic {
  const [, network = '', model] = /^(.*?)(?:,model=([\w.-]+))?$/.exec(text) ?? []
  if (network === '') throw new Failure(`Invalid network adapter '${text}': NETWORK[,model=MODEL] is expected`)
  return { network, model }
}

/** `--firmware`.
 *  @throws Failure */
export function readFirmware(text: string): 'bios' | 'efi' {
  if (text === 'bios' || text === 'efi') return text
  throw new Failure('--firmware must be used with bios or efi')
}
