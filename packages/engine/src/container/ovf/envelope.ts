/** The descriptor of a package: an Envelope as a typed model. Facts: DSP0243 1.1 and 2.1. */
import { childrenOf, decodeXml, readXml, textOf, type XmlElement } from '../../codec/xml/document.ts'
import { type ByteSource, MoraineError } from '../../core/index.ts'
import type { ContainerContext } from '../container.ts'
import { readSystem, readUnknown, type SystemReading, type UnknownSection, type VirtualSystem } from './content.ts'
import { type OvfDisk, type OvfFile, readDisks, readFiles } from './references.ts'
import { nameOf, type OvfVersion, ovfAttribute, versionOf } from './xml.ts'

/** A network that machines are connected to. */
export interface OvfNetwork {
  name: string
  description: string | undefined
  line: number
}

/** One of several ways to deploy. */
export interface DeploymentOption {
  id: string
  label: string | undefined
  description: string | undefined
  /** It counts where none is chosen. The first does where none says so. */
  isDefault: boolean
}

/** What a descriptor says. */
export interface Envelope {
  version: OvfVersion
  files: readonly OvfFile[]
  disks: readonly OvfDisk[]
  networks: readonly OvfNetwork[]
  options: readonly DeploymentOption[]
  /** The machine, or a collection of them; undefined where there is none. */
  content: VirtualSystem | undefined
  /** All machines, those of collections too, in order. */
  systems: readonly VirtualSystem[]
  /** Sections that are not known here, wherever they stand. */
  unknown: readonly UnknownSection[]
  /** The document itself, for those who change it. */
  document: { root: XmlElement; text: string }
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
  if (source.size > mostBytes) {
    throw new MoraineError('limit', 'the descriptor is too large', {
      path,
      field: 'size',
      value: source.size,
      rule: `at most ${mostBytes}`,
    })
  }
  const bytes = new Uint8Array(source.size)
  await source.read(0, bytes, signal)
  // VMware's own test suites have prefixes that nobody bound.
  const root = await readXml(bytes, xml, path, { unboundPrefixes: true })
  const version = versionOf(root.uri)
  if (root.local !== 'Envelope' || version === undefined) {
    throw new MoraineError('invalid', 'the descriptor is no OVF', {
      path,
      field: 'root element',
      value: `${root.local} of ${root.uri.slice(0, 100) || 'no namespace'}`,
      rule: 'Envelope of a namespace of OVF 0.9, 1 or 2',
    })
  }
  return { ...readRoot(root, path), version, document: { root, text: decodeXml(bytes, path) } }
}

const ofEnvelope = new Set([
  'References',
  'DiskSection',
  'NetworkSection',
  'DeploymentOptionSection',
  'VirtualSystem',
  'VirtualSystemCollection',
  'Strings',
  'SharedDiskSection',
])

function readRoot(root: XmlElement, path: string): Omit<Envelope, 'version' | 'document'> {
  const sections = (name: string) => root.children.filter((section) => nameOf(section) === name)
  const reading: SystemReading = { path, systems: [], unknown: [], texts: readStrings(root), depth: 0 }
  const contents = [...sections('VirtualSystem'), ...sections('VirtualSystemCollection')]
  const [content] = contents.map((element) => readSystem(element, reading))
  for (const section of root.children) {
    if (!ofEnvelope.has(nameOf(section))) readUnknown(section, reading)
  }
  return {
    files: readFiles(root, path),
    disks: readDisks([...sections('DiskSection'), ...sections('SharedDiskSection')], path),
    networks: sections('NetworkSection').flatMap((section) =>
      childrenOf(section, 'Network').map((network) => ({
        name: ovfAttribute(network, 'name') ?? '',
        description: textOf(network, 'Description'),
        line: network.line,
      })),
    ),
    options: sections('DeploymentOptionSection').flatMap((section) =>
      childrenOf(section, 'Configuration').map((option) => ({
        id: ovfAttribute(option, 'id') ?? '',
        label: textOf(option, 'Label'),
        description: textOf(option, 'Description'),
        isDefault: /^(?:true|1)$/i.test(ovfAttribute(option, 'default') ?? ''),
      })),
    ),
    content,
    systems: reading.systems,
    unknown: reading.unknown,
  }
}

/** Texts that the descriptor brings for `msgid`; the first language that has one counts. Those in other files are not read. */
function readStrings(root: XmlElement): ReadonlyMap<string, string> {
  const texts = new Map<string, string>()
  for (const strings of childrenOf(root, 'Strings')) {
    for (const message of childrenOf(strings, 'Msg')) {
      const id = ovfAttribute(message, 'msgid')
      if (id !== undefined && !texts.has(id)) texts.set(id, message.text.trim())
    }
  }
  return texts
}

/** The deployment option that counts where none is chosen. */
export function defaultOption({ options }: Pick<Envelope, 'options'>): DeploymentOption | undefined {
  return options.find(({ isDefault }) => isDefault) ?? options[0]
}
