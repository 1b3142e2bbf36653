/** Checks a package against the rules of the standard. */
import { type ByteSource, isMoraineError, type Signing } from '../../../core/index.ts'
import { findMember, plainMemberName } from '../../container.ts'
import { diskCapacity } from '../machine.ts'
import type { OvfPackage } from '../open-package.ts'
import { checkDescriptor } from './descriptor.ts'
import { checkArchive, checkFiles } from './files.ts'
import { Findings, type PackageFinding, quoted } from './finding.ts'

/** What a look at an image of the package finds. */
export interface ImageLook {
  format: string
  virtualSize: number | undefined
  /** Sentences; empty where it is sound. */
  problems: readonly string[]
}

/** How a package is checked. */
export interface PackageCheckOptions {
  signing: Signing
  /** Looks at the image of a disk; `source` is closed by the caller. Without it images are not looked at. */
  inspect?: ((source: ByteSource) => Promise<ImageLook>) | undefined
  onBytes?: ((bytes: number) => void) | undefined
  /** Milliseconds since 1970, for certificates. Default: now. */
  now?: number | undefined
  signal?: AbortSignal | undefined
}

/** What a check found. */
export interface PackageCheck {
  findings: readonly PackageFinding[]
  /** Findings beyond the first thousand. */
  leftOut: number
  errors: number
  warnings: number
}

/** As `checkPackage`. */
export async function checkOpened(opened: OvfPackage, options: PackageCheckOptions): Promise<PackageCheck> {
  const findings = new Findings()
  checkDescriptor(opened.envelope, opened.source.name, findings)
  checkArchive(opened, findings)
  const { signing, onBytes, signal, now = Date.now() } = options
  await checkFiles(opened, { signing, onBytes, signal, now }, findings)
  if (options.inspect !== undefined) await checkImages(opened, options.inspect, findings)
  const count = (severity: PackageFinding['severity']) =>
    findings.list.filter((finding) => finding.severity === severity).length
  return { findings: findings.list, leftOut: findings.leftOut, errors: count('error'), warnings: count('warning') }
}

/** What the URIs of formats mean. Facts: VMware's and oVirt's descriptors, DSP0243 2.1, section 9.1. */
function formatOf(uri: string): string | undefined {
  if (/vmware\.com\/.*vmdk/i.test(uri)) return 'vmdk'
  if (/qcow/i.test(uri)) return 'qcow2'
  if (/microsoft\.com\/.*137171/i.test(uri)) return 'vhd'
  return /ecma-119/i.test(uri) ? 'iso' : undefined
}

async function checkImages(
  opened: OvfPackage,
  inspect: NonNullable<PackageCheckOptions['inspect']>,
  findings: Findings,
): Promise<void> {
  const { disks, files } = opened.envelope
  for (const disk of disks) {
    const file = files.find(({ id }) => id === disk.fileRef)
    if (file === undefined) continue
    const member = await findMember(opened, plainMemberName(file.href))
    if (member === undefined) continue
    const place = { file: file.href, line: disk.line }
    try {
      const source = await opened.open(member)
      let look: ImageLook
      try {
        look = await inspect(source)
      } finally {
        await source.close()
      }
      for (const problem of look.problems) findings.error('image', `${quoted(file.href)}: ${problem}`, place)
      const said = disk.format === undefined ? undefined : formatOf(disk.format)
      if (said !== undefined && said !== look.format)
        findings.error('disk-format', `${quoted(file.href)} is ${look.format}, and not ${said}`, place)
      const capacity = diskCapacity(disk, opened.source.name)
      if (
        capacity !== undefined &&
        look.virtualSize !== undefined &&
        look.virtualSize > capacity &&
        disk.parentRef === undefined
      ) {
        findings.error(
          'capacity',
          `the disk in ${quoted(file.href)} has ${look.virtualSize} bytes, more than the ${capacity} that the descriptor says`,
          place,
        )
      }
    } catch (error) {
      if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') throw error
      // What is missing, lies outside or has a wrong size was said.
      if (error.kind === 'corrupt' || error.kind === 'unsupported' || error.kind === 'limit')
        findings.error('image', `${quoted(file.href)}: ${error.reason}`, place)
    }
  }
}
