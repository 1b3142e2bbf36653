/** `--untrusted`: how images of strangers are opened. Nothing that an image names is opened unless the user allowed that very name, and what an image may cost is bounded more tightly. */
import { type Gate, type GateRequest, type Limits, MoraineError } from '@moraine/engine'

/** That images are not trusted, and which names they may open all the same. */
export interface Distrust {
  /** As they stand in the images, or as they are on this machine. */
  readonly allow: readonly string[]
}

const mebibyte = 1024 ** 2
const gibibyte = 1024 ** 3

/** Bounds under which every disk that is in use opens, and none takes more than seconds to be refused. */
export const untrustedLimits: Partial<Limits> = {
  // The tables of a VHD of 2 TiB have 4 MiB, the L1 table of a qcow2 of 64 TiB has 1 MiB.
  tableBytes: 16 * mebibyte,
  cacheBytes: 8 * mebibyte,
  checkBytes: 24 * mebibyte,
  chainDepth: 16,
  // The longest VHDX.
  virtualSize: 64 * 1024 * gibibyte,
  unpackedBytes: 1024 * gibibyte,
  unpackedRatio: 10_000,
  spoolBytes: 64 * gibibyte,
  // Ten times what cryptsetup and QEMU take for a key slot on a usual machine.
  keyRounds: 50_000_000,
  keyBytes: gibibyte,
}

const wanted: Readonly<Record<GateRequest['role'], string>> = {
  backing: 'a backing file',
  'data-file': 'an external data file',
  extent: 'a file with its data',
  parent: 'a parent',
}

/** Opens what was allowed through `gate`, and nothing else.
 *  Its error is a MoraineError `denied`. */
export function distrustfulGate(distrust: Distrust, gate: Gate): Gate {
  return {
    resolve: (asked) => gate.resolve(asked),
    async open(asked) {
      refuseUnlessAllowed(distrust, asked, gate.resolve(asked))
      return await gate.open(asked)
    },
  }
}

/** Refuses what was not allowed; `full` is the name as this machine would open it.
 *  @throws MoraineError `denied` */
export function refuseUnlessAllowed(
  { allow }: Distrust,
  { from, name, role }: Pick<GateRequest, 'from' | 'name' | 'role'>,
  full: string,
): void {
  if (allow.includes(name) || allow.includes(full)) return
  throw new MoraineError('denied', `the image wants ${wanted[role]}, which --untrusted does not open`, {
    path: from,
    field: role,
    value: name,
    hint: `If that file may be read, and what it holds may get into the result: --allow=${quoted(name)}`,
  })
}

/** As a shell takes it. */
function quoted(name: string): string {
  return /^[\w./:@%+,-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`
}
