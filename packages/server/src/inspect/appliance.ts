/** Looks into appliances: each disk in an OVA is judged as an image by itself would be. */
import {
  allFormats,
  type ByteSource,
  inspectSource,
  isMoraineError,
  isOvfPackage,
  type OvfPackage,
  openContainer,
  ova,
  xmlParser,
} from '@moraine/engine'
import { nodeStreamCodecs } from '@moraine/engine/node'
import { type Claim, judge, RefusedContent } from './judge.ts'

/** Descriptors as the service reads them; the library is loaded with the first one. */
const xml = xmlParser(() => import('saxes'))

/** Most files of an appliance that are looked at. */
const mostDisks = 256

/** The appliance in a source, which belongs to it then; undefined, with the source left open, where it is none.
 *  @throws MoraineError `corrupt`, `invalid`, `limit`; the source is closed then. */
export async function openAppliance(source: ByteSource, signal?: AbortSignal): Promise<OvfPackage | undefined> {
  // What it is called is ours, not the uploader's: any tar with a descriptor is one.
  const formats = [
    { ...ova, probe: (window: Parameters<typeof ova.probe>[0]) => ova.probe({ ...window, name: 'upload.ova' }) },
  ]
  const opened = await openContainer(source, formats, { xml, formats: allFormats, codecs: nodeStreamCodecs, signal })
  return opened !== undefined && isOvfPackage(opened) ? opened : undefined
}

/** Judges data whose container is said to be `ova`; that of other containers passes.
 *  @throws RefusedContent with the disk and the reason */
export async function judgeAppliance(open: () => Promise<ByteSource>, claim: Claim): Promise<void> {
  if (claim.containerFormat !== 'ova') return
  const source = await open()
  let opened: OvfPackage | undefined
  try {
    opened = await openAppliance(source)
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'io') throw error
    throw new RefusedContent('unsafe', `the image data is a broken ova: ${error.reason}`)
  }
  if (opened === undefined) {
    await source.close()
    if (!claim.requireMatch) return
    throw new RefusedContent('mismatch', 'the image data is no ova, but container_format says ova')
  }
  try {
    await judgeDisks(opened, claim)
  } finally {
    await opened.close()
  }
}

async function judgeDisks(opened: OvfPackage, claim: Claim): Promise<void> {
  const { files, disks } = opened.envelope
  const named = new Set(disks.map(({ fileRef }) => fileRef))
  const held = files.filter(({ id }) => named.has(id))
  if (held.length > mostDisks)
    throw new RefusedContent(
      'unsafe',
      `the image data is an ova with ${held.length} disks, more than are looked at (${mostDisks})`,
    )
  for (const file of held) {
    const name = JSON.stringify(file.href.slice(0, 120))
    try {
      // As it is stored: what is packed is unpacked by the inspection, as far as that needs.
      const stored = await opened.openStored(file)
      const inspection = await inspectSource(stored).finally(() => stored.close())
      const packed = inspection.findings.find(({ inner }) => inner !== undefined)?.inner
      judge(
        packed ?? inspection,
        { ...claim, containerFormat: 'bare', diskFormat: '', requireMatch: false },
        packed === undefined,
      )
    } catch (error) {
      if (error instanceof RefusedContent)
        throw new RefusedContent(error.kind, `the disk ${name} in the ova: ${error.message}`)
      if (!isMoraineError(error) || error.kind === 'io') throw error
      throw new RefusedContent('unsafe', `the disk ${name} in the ova: ${error.reason}`)
    }
  }
}
