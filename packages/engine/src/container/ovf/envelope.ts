/** The descriptor of a package: an Envelope. Facts: DSP0243 1.1 and 2.1, section 7. */
import { readXml, type XmlElement } from '../../codec/xml/document.ts'
import { type ByteSource, MoraineError } from '../../core/index.ts'
import type { ContainerContext } from '../container.ts'
import { type OvfDisk, type OvfFile, readDisks, readFiles } from './references.ts'

/** What a descriptor says. */
export interface Envelope {
  files: readonly OvfFile[]
  disks: readonly OvfDisk[]
}

const mostBytes = 16 * 1024 * 1024

/** Reads a descriptor.
 *  @throws MoraineError `invalid`, `limit`; `unsupported` without a parser for XML. */
export async function readEnvelope(
  source: ByteSource,
  { xml, signal }: Pick<ContainerContext, 'xml' | 'signal'>,
): Promise<Envelope> {
  const path = source.name
  if (xml === undefined)
    throw new MoraineError('unsupported', 'there is no parser for XML here', { path, field: 'xml' })
  if (source.size > mostBytes)
    throw new MoraineError('limit', 'the descriptor is too large', {
      path,
      field: 'size',
      value: source.size,
      rule: `at most ${mostBytes}`,
    })
  const bytes = new Uint8Array(source.size)
  await source.read(0, bytes, signal)
  const root = await readXml(bytes, xml, path)
  if (root.local !== 'Envelope')
    throw new MoraineError('invalid', 'the descriptor is no OVF', {
      path,
      field: 'root element',
      value: root.local,
      rule: 'Envelope',
    })
  return { files: readFiles(root, path), disks: readDisks(diskSections(root), path) }
}

function diskSections(root: XmlElement): XmlElement[] {
  return root.children.filter((section) => section.children.some(({ local }) => local === 'Disk'))
}
