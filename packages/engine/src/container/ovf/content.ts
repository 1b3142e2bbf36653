/** What an envelope describes: a machine, or a collection of them. Facts: DSP0243 2.1, sections 9.2 to 9.12. */
import { childOf, childrenOf, textOf, type XmlElement } from '../../codec/xml/document.ts'
import { MoraineError } from '../../core/index.ts'
import { type HardwareSection, readHardware } from './hardware.ts'
import { isRequired, nameOf, ovfAttribute, vmwareAttribute } from './xml.ts'

/** A section that is not known here. */
export interface UnknownSection {
  name: string
  namespace: string
  /** Who does not know it may not deploy the package. */
  required: boolean
  line: number
}

/** The system in a machine. */
export interface OperatingSystem {
  /** CIM's number of it. */
  id: number | undefined
  version: string | undefined
  description: string | undefined
  /** VMware's name of it: `ubuntu64Guest`. */
  vmwareType: string | undefined
}

/** A value that whoever deploys may set. */
export interface OvfProperty {
  /** `CLASS.KEY.INSTANCE`, as far as it has these. */
  id: string
  key: string
  type: string
  value: string | undefined
  label: string | undefined
  description: string | undefined
  category: string | undefined
  userConfigurable: boolean
  password: boolean
  qualifiers: string | undefined
  /** Values for deployment options, by their id. */
  values: Readonly<Record<string, string>>
}

/** What software is in a machine. */
export interface OvfProduct {
  product: string | undefined
  vendor: string | undefined
  version: string | undefined
  fullVersion: string | undefined
  productUrl: string | undefined
  vendorUrl: string | undefined
  properties: readonly OvfProperty[]
}

/** When a machine of a collection starts and stops. */
export interface StartupItem {
  id: string
  order: number | undefined
  startDelaySeconds: number | undefined
  startAction: string | undefined
  stopAction: string | undefined
}

/** A machine, or a collection of machines (`machines` is there then, and no hardware). */
export interface VirtualSystem {
  id: string
  name: string | undefined
  info: string | undefined
  hardware: readonly HardwareSection[]
  os: OperatingSystem | undefined
  products: readonly OvfProduct[]
  eulas: readonly string[]
  annotation: string | undefined
  /** `BIOS` or `EFI` and its kinds, where VirtualBox's own description of the machine says so. */
  virtualBoxFirmware: string | undefined
  /** It is started once to install itself; the delay is in seconds. */
  install: { initialBootStopDelay: number } | undefined
  startup: readonly StartupItem[]
  machines: readonly VirtualSystem[] | undefined
  line: number
}

/** What is gathered while content is read. */
export interface SystemReading {
  path: string
  systems: VirtualSystem[]
  unknown: UnknownSection[]
  texts: ReadonlyMap<string, string>
  depth: number
}

const mostDepth = 16

const known = new Set([
  'Info',
  'Name',
  'VirtualHardwareSection',
  'OperatingSystemSection',
  'ProductSection',
  'EulaSection',
  'AnnotationSection',
  'InstallSection',
  'StartupSection',
  'ResourceAllocationSection',
  'VirtualSystem',
  'VirtualSystemCollection',
  'EnvironmentFilesSection',
  'BootDeviceSection',
  'ScaleOutSection',
  'PlacementSection',
  'PlacementGroupSection',
  'EncryptionSection',
])

/** Notes a section that is not known. */
export function readUnknown(section: XmlElement, { unknown }: SystemReading): void {
  // What else stands there is no section by the standard's own names, and nobody must know it unless it says so.
  const must = /Section$/.test(nameOf(section)) || ovfAttribute(section, 'required') !== undefined
  unknown.push({
    name: nameOf(section),
    namespace: section.uri,
    required: must && isRequired(section),
    line: section.line,
  })
}

/** Reads a machine or a collection.
 *  @throws MoraineError `limit` for collections within one another beyond all sense. */
export function readSystem(element: XmlElement, reading: SystemReading): VirtualSystem {
  const { path, texts, depth } = reading
  if (depth > mostDepth) {
    throw new MoraineError('limit', 'the descriptor has too many collections within one another', {
      path,
      field: 'VirtualSystemCollection',
      rule: `at most ${mostDepth}`,
    })
  }
  const sections = (name: string) => element.children.filter((section) => nameOf(section) === name)
  const isCollection = nameOf(element) === 'VirtualSystemCollection'
  const said = (parent: XmlElement | undefined, local: string) => spoken(parent, local, texts)
  const [os] = sections('OperatingSystemSection')
  const [install] = sections('InstallSection')
  const inner = [...element.children].filter((child) => /^VirtualSystem(?:Collection)?$/.test(nameOf(child)))
  const startup = sections('StartupSection').flatMap((section) => childrenOf(section, 'Item').map(readStartup))
  const common = {
    id: ovfAttribute(element, 'id') ?? '',
    name: said(element, 'Name'),
    info: said(element, 'Info'),
    hardware: sections('VirtualHardwareSection').map(readHardware),
    os: os === undefined ? undefined : readOs(os, texts),
    products: sections('ProductSection').map((section) => readProduct(section, texts)),
    eulas: sections('EulaSection').flatMap((section) => said(section, 'License') ?? []),
    annotation: said(sections('AnnotationSection')[0], 'Annotation'),
    virtualBoxFirmware: virtualBoxFirmware(element),
    install:
      install === undefined
        ? undefined
        : { initialBootStopDelay: numberOf(ovfAttribute(install, 'initialBootStopDelay')) ?? 0 },
    startup,
    line: element.line,
  }
  for (const section of element.children)
    if (!known.has(nameOf(section)) && !isVirtualBox(section)) readUnknown(section, reading)
  if (!isCollection) {
    const system: VirtualSystem = { ...common, machines: undefined }
    reading.systems.push(system)
    return system
  }
  const deeper = { ...reading, depth: depth + 1 }
  return { ...common, machines: inner.map((child) => readSystem(child, deeper)) }
}

const virtualBoxNamespaces = [
  'http://www.virtualbox.org/ovf/machine',
  'http://www.innotek.de/VirtualBox-settings',
  'http://www.virtualbox.org/',
]

function isVirtualBox({ local, uri }: XmlElement): boolean {
  return local === 'Machine' && virtualBoxNamespaces.includes(uri)
}

function virtualBoxFirmware(element: XmlElement): string | undefined {
  const machine = element.children.find(isVirtualBox)
  const hardware = machine === undefined ? undefined : childOf(machine, 'Hardware')
  const firmware = hardware === undefined ? undefined : childOf(hardware, 'Firmware')
  return firmware?.attributes.find(({ local }) => local === 'type')?.value
}

/** The text of a child, by its `msgid` where it has one that is known. */
function spoken(parent: XmlElement | undefined, local: string, texts: ReadonlyMap<string, string>): string | undefined {
  const child = parent === undefined ? undefined : childOf(parent, local)
  if (child === undefined) return undefined
  const id = ovfAttribute(child, 'msgid')
  return (id === undefined ? undefined : texts.get(id)) ?? (child.text.trim() || undefined)
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\s*[0-9]{1,9}\s*$/.test(text) ? Number(text) : undefined
}

function readOs(section: XmlElement, texts: ReadonlyMap<string, string>): OperatingSystem {
  return {
    id: numberOf(ovfAttribute(section, 'id')),
    version: ovfAttribute(section, 'version') || undefined,
    description: spoken(section, 'Description', texts),
    vmwareType: vmwareAttribute(section, 'osType'),
  }
}

function readStartup(item: XmlElement): StartupItem {
  return {
    id: ovfAttribute(item, 'id') ?? '',
    order: numberOf(ovfAttribute(item, 'order')),
    startDelaySeconds: numberOf(ovfAttribute(item, 'startDelay')),
    startAction: ovfAttribute(item, 'startAction'),
    stopAction: ovfAttribute(item, 'stopAction'),
  }
}

function readProduct(section: XmlElement, texts: ReadonlyMap<string, string>): OvfProduct {
  const [kind = '', instance = ''] = [ovfAttribute(section, 'class'), ovfAttribute(section, 'instance')]
  const properties: OvfProperty[] = []
  let category: string | undefined
  for (const child of section.children) {
    // A category counts for the properties behind it.
    if (child.local === 'Category') category = texts.get(ovfAttribute(child, 'msgid') ?? '') ?? child.text.trim()
    if (child.local === 'Property') properties.push(readProperty(child, { kind, instance, category, texts }))
  }
  return {
    product: spoken(section, 'Product', texts),
    vendor: spoken(section, 'Vendor', texts),
    version: textOf(section, 'Version') || undefined,
    fullVersion: textOf(section, 'FullVersion') || undefined,
    productUrl: textOf(section, 'ProductUrl') || undefined,
    vendorUrl: textOf(section, 'VendorUrl') || undefined,
    properties,
  }
}

function readProperty(
  property: XmlElement,
  {
    kind,
    instance,
    category,
    texts,
  }: { kind: string; instance: string; category: string | undefined; texts: ReadonlyMap<string, string> },
): OvfProperty {
  const key = ovfAttribute(property, 'key') ?? ''
  const values = childrenOf(property, 'Value').flatMap((value) => {
    const option = ovfAttribute(value, 'configuration')
    const text = ovfAttribute(value, 'value')
    return option === undefined || text === undefined ? [] : [[option, text] as const]
  })
  return {
    id: [kind, key, instance].filter((part) => part !== '').join('.'),
    key,
    type: ovfAttribute(property, 'type') ?? 'string',
    value: ovfAttribute(property, 'value'),
    label: spoken(property, 'Label', texts),
    description: spoken(property, 'Description', texts),
    category: category || undefined,
    userConfigurable: /^(?:true|1)$/i.test(ovfAttribute(property, 'userConfigurable') ?? ''),
    password: /^(?:true|1)$/i.test(ovfAttribute(property, 'password') ?? ''),
    qualifiers: ovfAttribute(property, 'qualifiers'),
    values: Object.fromEntries(values),
  }
}
