/** Decides whether image data is what its owner says, and may be taken. Rules: Glance's (container `bare` only), with its false alarms left out. */

import type { ByteSource } from '@moraine/engine'
import { allFormats, closedGate, findFormat, isMoraineError, openDisk } from '@moraine/engine'
import type { Finding } from './finding.ts'
import { findCut } from './qcow2-tables.ts'

/** What the owner said, and how strict the service is. */
export interface Claim {
  diskFormat: string
  containerFormat: string
  /** False: data that is something else than `diskFormat` is taken, unless it is dangerous. */
  requireMatch: boolean
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
const recognisable = new Set(['qcow2', 'vhd', 'vhdx', 'vmdk', 'vdi', 'iso'])

/** Judges the findings of a head or of the whole.
 *  @param whole False while only the head is known: what must still come (a tail, what lies behind the head) is not missed then.
 *  @returns The finding that the data is to be taken as; undefined for raw. @throws RefusedContent */
export function judge(findings: readonly Finding[], claim: Claim, whole: boolean): Finding | undefined {
  if (claim.containerFormat !== 'bare') return undefined
  const finding = single(findings, claim)
  const found = finding?.format ?? 'raw'
  // What needs more than the head to be judged (VMDK, VHDX) is judged at the end.
  const judged = finding !== undefined && (whole || (found !== 'vmdk' && found !== 'vhdx'))
  if (judged && finding.dangers.length > 0) {
    throw new RefusedContent('unsafe', `the image data is ${found}, and not safe: ${finding.dangers.join('; ')}`)
  }
  if (!claim.requireMatch || fits(found, claim.diskFormat, whole)) return finding
  throw new RefusedContent('mismatch', `the image data is ${found}, but disk_format says ${claim.diskFormat}`)
}

/** One format or none; several at once are how one reader is fooled about what another will see. */
function single(findings: readonly Finding[], claim: Claim): Finding | undefined {
  // A partition table may lie in the system area of an ISO (hybrid images), and is what a VHD holds.
  const kept = findings.filter(({ format }) => format !== 'gpt')
  const [first, second] = kept
  if (second !== undefined) {
    throw new RefusedContent(
      'unsafe',
      `the image data is several formats at once: ${kept.map(({ format }) => format).join(', ')}`,
    )
  }
  if (first === undefined) return undefined
  const alsoDisk = findings.length > kept.length
  if (alsoDisk && first.format !== 'iso' && first.format !== 'vhd' && claim.diskFormat !== 'raw') {
    throw new RefusedContent('unsafe', `the image data is ${first.format} and has a partition table too`)
  }
  return first
}

function fits(found: string, declared: string, whole: boolean): boolean {
  if (found === declared) return true
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
  if (claim.diskFormat === 'raw') return size
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
      return disk.info().virtualSize
    } finally {
      await disk.close()
    }
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'io') throw error
    if (error.kind === 'unsupported') return finding.virtualSize ?? null
    throw new RefusedContent('unsafe', `the image data is a broken ${finding.format}: ${error.reason}`)
  }
}
