/** Decides whether image data is what its owner says, and may be taken. Rules: Glance's (container `bare` only), with its false alarms left out. */

import {
  allFormats,
  type ByteSource,
  bootKindOf,
  type CheckName,
  closedGate,
  type Finding,
  findFormat,
  type Inspection,
  inspectedHeadBytes,
  isMoraineError,
  openDisk,
  StreamInspector,
} from '@moraine/engine'
import { findCut } from './qcow2-tables.ts'

/** What the owner said, and how strict the service is. */
export interface Claim {
  diskFormat: string
  containerFormat: string
  /** False: data that is something else than `diskFormat` is taken, unless it is dangerous. */
  requireMatch: boolean
  /** Kernels and ramdisks (aki, ari) must be some. */
  requireBootKind: boolean
}

/** What is said of an image, and what the settings ask for. */
export function claimOf(
  { requireFormatMatch, requireFormatAgreement }: { requireFormatMatch: boolean; requireFormatAgreement: boolean },
  { diskFormat, containerFormat }: { diskFormat: string | null; containerFormat: string | null },
): Claim {
  return {
    diskFormat: diskFormat ?? '',
    containerFormat: containerFormat ?? '',
    requireMatch: requireFormatMatch,
    requireBootKind: requireFormatMatch && requireFormatAgreement,
  }
}

/** Why data is refused: `mismatch` when it is not what was said, `unsafe` when nobody may upload it. */
export class RefusedContent extends Error {
  readonly kind: 'mismatch' | 'unsafe'

  constructor(kind: RefusedContent['kind'], message: string) {
    super(message)
    this.name = 'RefusedContent'
    this.kind = kind
  }
}

/** Disk formats with a signature; `raw` is none, and of the rest (ami, ari, aki, ploop) nothing is known. */
const recognisable = new Set(['gpt', 'qcow2', 'vhd', 'vhdx', 'vmdk', 'vdi', 'iso'])

/** What the engine says against formats that nobody here takes, in the service's words. */
const refusals: Record<string, string> = { qcow: 'qcow2 version 1 is not known', qed: 'QED is not taken' }

/** Checks that are about the guest's own business. */
const harmless: ReadonlySet<CheckName> = new Set(['partition-table', 'boot-code'])

/** Checks that fail when data is damaged rather than dangerous. */
const damage: ReadonlySet<CheckName> = new Set(['header', 'table-sizes'])

/** Looks at the first bytes of an upload, all of it when they are fewer than a head.
 *  @returns What is known by them, and whether it is all. */
export function inspectStart(head: Uint8Array): { inspection: Inspection; whole: boolean } {
  const inspector = new StreamInspector()
  inspector.push(head)
  const whole = head.length < inspectedHeadBytes
  return { inspection: whole ? inspector.end() : inspector.seen(), whole }
}

/** Judges what a head or the whole shows.
 *  @param whole False while only the head is known: what must still come (a tail, what lies behind the head) is not missed then.
 *  @returns The finding that the data is to be taken as; undefined for raw. @throws RefusedContent */
export function judge(inspection: Inspection, claim: Claim, whole: boolean): Finding | undefined {
  if (claim.containerFormat !== 'bare') return undefined
  const finding = single(inspection, claim)
  if (finding !== undefined) refuseDanger(finding)
  const found = finding?.format ?? (hasTable(inspection, claim) ? 'gpt' : 'raw')
  if (!claim.requireMatch || fits(found, claim.diskFormat, whole)) return finding
  throw new RefusedContent('mismatch', `the image data is ${found}, but disk_format says ${claim.diskFormat}`)
}

/** What may be stored as a kernel or a ramdisk: whatever a boot loader could take for one. What is packed cannot always be looked into, and old ramdisks are file systems. */
const bootKinds: Readonly<Record<string, { name: string; kinds: readonly string[] }>> = {
  aki: { name: 'a kernel', kinds: ['kernel', 'packed'] },
  ari: { name: 'a ramdisk', kinds: ['ramdisk', 'packed', 'file-system'] },
}

/** Judges what is said to be a kernel or a ramdisk. @throws RefusedContent */
export async function judgeBootKind(source: ByteSource, { diskFormat, containerFormat, requireBootKind }: Claim) {
  const expected = diskFormat === containerFormat ? bootKinds[diskFormat] : undefined
  if (expected === undefined || !requireBootKind) return
  const kind = await bootKindOf(source)
  if (kind !== undefined && expected.kinds.includes(kind)) return
  const found = kind === undefined ? 'nothing that boots' : kind === 'packed' ? kind : `a ${kind.replace('-', ' ')}`
  throw new RefusedContent(
    'mismatch',
    `the image data is ${found}, but disk_format says ${diskFormat}: ${expected.name} is expected`,
  )
}

/** A check that failed stays failed, whatever still comes. */
function refuseDanger({ format, checks }: Finding): void {
  const failed = checks.filter(({ name, verdict }) => verdict === 'failed' && !harmless.has(name))
  if (failed.length === 0) return
  const sentences = failed.map(({ name, sentence }) =>
    name === 'obsolete-format' ? (refusals[format] ?? sentence) : sentence,
  )
  const what = failed.every(({ name }) => damage.has(name)) ? `a broken ${format}` : `${format}, and not safe`
  throw new RefusedContent('unsafe', `the image data is ${what}: ${sentences.join('; ')}`)
}

/** One format or none; several at once are how one reader is fooled about what another will see. What is packed or an archive is nothing that a hypervisor opens. */
function single({ findings, checks }: Inspection, claim: Claim): Finding | undefined {
  const disks = findings.filter(({ kind, format }) => kind === 'disk' && format !== 'raw')
  // What a footer makes a disk may hold a volume.
  const byFooter = disks.some(({ by }) => by === 'tail')
  const kept = [...disks, ...findings.filter(({ kind }) => kind === 'optical' && !byFooter)]
  const [first, second] = kept
  if (second !== undefined) {
    const names = kept.map(({ format }) => format).join(', ')
    throw new RefusedContent('unsafe', `the image data is several formats at once: ${names}`)
  }
  const polyglot = checks.find(({ name, verdict }) => name === 'polyglot' && verdict === 'failed')
  // Nobody will probe what is declared raw.
  if (first === undefined || polyglot === undefined || claim.diskFormat === 'raw') return first
  if (findings.some(({ kind, format }) => kind === 'partitions' || format === 'boot-sector')) {
    throw new RefusedContent('unsafe', `the image data is ${first.format} and has a partition table too`)
  }
  throw new RefusedContent('unsafe', `the image data is not safe: ${polyglot.sentence}`)
}

/** Partitions are what a raw disk holds, and nothing else; only who says `gpt` means them. */
function hasTable({ findings }: Inspection, { diskFormat }: Claim): boolean {
  return diskFormat === 'gpt' && findings.some(({ kind, format }) => kind === 'partitions' && format === 'gpt')
}

function fits(found: string, declared: string, whole: boolean): boolean {
  if (found === declared || (found === 'parallels' && declared === 'ploop')) return true
  // A guest may have written anything into its raw disk; nobody will probe it, as it is declared.
  if (declared === 'raw') return true
  if (found !== 'raw') return false
  if (!recognisable.has(declared)) return true
  // The footer of a fixed VHD has not come yet.
  return !whole && declared === 'vhd'
}

/** Bytes of the disk inside, as the engine reads it where it knows the format, else as the header says; null when nobody can tell.
 *  @throws RefusedContent when the engine finds the image broken. */
export async function virtualSizeOf(
  open: () => Promise<ByteSource>,
  claim: Claim,
  finding: Finding | undefined,
  size: number,
): Promise<number | null> {
  if (claim.containerFormat !== 'bare') return null
  if (claim.diskFormat === 'raw' || claim.diskFormat === 'gpt') return size
  if (finding?.format !== claim.diskFormat) return null
  if (findFormat(allFormats, finding.format) === undefined) return finding.virtualSize ?? null
  try {
    const disk = await openDisk(await open(), {
      formats: allFormats,
      format: finding.format,
      purpose: 'info',
      gate: closedGate,
    })
    try {
      const cut = finding.format === 'qcow2' ? await findCut(disk.file) : undefined
      if (cut !== undefined) throw new RefusedContent('unsafe', `the image data is a broken qcow2: ${cut}`)
      const { virtualSize, backing } = disk.info()
      // A log that the engine replayed may have brought one that could not be seen before.
      if (backing !== undefined)
        throw new RefusedContent('unsafe', `the image data is ${finding.format}, and not safe: it names a parent`)
      return virtualSize
    } finally {
      await disk.close()
    }
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'io') throw error
    if (error.kind === 'unsupported') return finding.virtualSize ?? null
    throw new RefusedContent('unsafe', `the image data is a broken ${finding.format}: ${error.reason}`)
  }
}
