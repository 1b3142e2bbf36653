/** OVF and OVA as containers: a descriptor with its files beside it, or all of them in one tar. Facts: DMTF DSP0243 1.1 and 2.1. */
import type { ByteStore, RunOptions } from '../../core/index.ts'
import type { ProbeWindow, StreamPlan } from '../../format/format.ts'
import type { Container, ContainerFormat } from '../container.ts'
import { looksLikeTar } from '../tar/index.ts'
import type { PackageCheck, PackageCheckOptions } from './check/index.ts'
import type { MachineChanges } from './edit/machine.ts'
import type { RewriteOptions, RewrittenPapers } from './edit/rewrite.ts'
import type { OvfPackage } from './open-package.ts'
import type { NewAppliance, PackageSink } from './write/appliance.ts'

/** Whether a container is an appliance, whose descriptor can be asked. */
export function isOvfPackage(container: Container): container is OvfPackage {
  return 'envelope' in container && (container.format === 'ova' || container.format === 'ovf')
}

/** Checks a package: the descriptor's rules, the archive's order, each file's size and digest (every byte is read once), the signature, and the images.
 *  @throws MoraineError `io`, `cancelled`. */
export async function checkPackage(opened: OvfPackage, options: PackageCheckOptions): Promise<PackageCheck> {
  return await (await import('./check/index.ts')).checkOpened(opened, options)
}

/** Appliances in one file. */
export const ova: ContainerFormat = {
  name: 'ova',
  aliases: [],
  extensions: ['ova'],
  holdsDisks: true,
  probe(window) {
    if (looksLikeTar(window) === undefined) return undefined
    if (/\.ovf$/i.test(firstName(window))) return { score: 90, evidence: 'a tar whose first member is a descriptor' }
    return /\.ova$/i.test(window.name) ? { score: 70, evidence: 'a tar that is called so' } : undefined
  },
  open: async (source, context) => (await import('./open-package.ts')).openOva(source, context),
}

/** Descriptors of appliances, whose files lie beside them. */
export const ovf: ContainerFormat = {
  name: 'ovf',
  aliases: [],
  extensions: ['ovf'],
  holdsDisks: true,
  probe({ head }) {
    const text = new TextDecoder().decode(head.subarray(0, 4096)).replaceAll('\0', '')
    if (!/^\s*</.test(text) || !/<(?:[\w-]+:)?Envelope[\s>]/.test(text)) return undefined
    return { score: 80, evidence: 'an Envelope' }
  },
  open: async (source, context) => (await import('./open-package.ts')).openOvf(source, context),
}

function firstName({ head }: ProbeWindow): string {
  const end = head.indexOf(0)
  return new TextDecoder().decode(head.subarray(0, Math.min(100, end < 0 ? 100 : end)))
}

/** Writes an OVA into an empty file, in one pass.
 *  @throws MoraineError `invalid` for a machine that cannot be so; what reading, writing and signing throw. */
export async function writeOva(store: ByteStore, appliance: NewAppliance, run: RunOptions = {}): Promise<void> {
  return await (await import('./write/appliance.ts')).writeOva(store, appliance, run)
}

/** An OVA front to back, for a pipe: disks whose length is not known before are made twice.
 *  @throws MoraineError as `writeOva`. */
export async function streamOva(appliance: NewAppliance, run: RunOptions = {}): Promise<StreamPlan> {
  return await (await import('./write/appliance.ts')).streamOva(appliance, run)
}

/** Writes a package whose files lie beside one another, the descriptor last.
 *  @throws MoraineError as `writeOva`. */
export async function writeOvf(sink: PackageSink, appliance: NewAppliance, run: RunOptions = {}): Promise<void> {
  return await (await import('./write/appliance.ts')).writeOvf(sink, appliance, run)
}

/** The text of a package's descriptor with changes of a machine: all else stays as it was written.
 *  @throws MoraineError `invalid`, `missing`, `unsupported`. */
export async function changeMachine(opened: OvfPackage, changes: MachineChanges): Promise<string> {
  return (await import('./edit/machine.ts')).changeMachine(opened.envelope, changes, opened.source.name)
}

/** What becomes of descriptor, manifest and signature of a package that gets another descriptor; the digests of files stay those of the old manifest.
 *  @throws MoraineError `missing` for a package without a manifest that is to be signed, `invalid`. */
export async function rewritePapers(opened: OvfPackage, options: RewriteOptions): Promise<RewrittenPapers> {
  return await (await import('./edit/rewrite.ts')).rewritePapers(opened, options)
}

/** Writes an OVA again, with another descriptor, into an empty file. Its files are compared with the manifest while they are copied.
 *  @throws MoraineError `corrupt`, `unsupported`, and what reading and writing throw. */
export async function rewriteOva(
  store: ByteStore,
  opened: OvfPackage,
  options: RewriteOptions,
): Promise<RewrittenPapers> {
  return await (await import('./edit/rewrite.ts')).rewriteOva(store, opened, options)
}
