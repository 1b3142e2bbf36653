/** Rules of the descriptor: what it names exists once, what it refers to is there, amounts are amounts. Facts: DSP0243 2.1, sections 7 to 9. */
import { unboundNamespace, type XmlElement } from '../../../codec/xml/document.ts'
import { isMoraineError } from '../../../core/index.ts'
import type { VirtualSystem } from '../content.ts'
import type { Envelope } from '../envelope.ts'
import type { HardwareItem, HardwareSection } from '../hardware.ts'
import { diskCapacity, hostResource } from '../machine.ts'
import { packageName } from '../references.ts'
import { isPropertyValue } from '../write/product.ts'
import { nameOf } from '../xml.ts'
import { type Findings, quoted, repeated } from './finding.ts'

/** Checks a descriptor by itself. */
export function checkDescriptor(envelope: Envelope, path: string, findings: Findings): void {
  checkText(envelope, findings)
  checkReferences(envelope, path, findings)
  checkDisks(envelope, path, findings)
  for (const name of repeated(envelope.networks.map((network) => network.name))) {
    findings.error('network-unique', `two networks are called ${quoted(name)}`)
  }
  for (const id of repeated(envelope.options.map((option) => option.id))) {
    findings.error('id-unique', `two deployment options have the id ${quoted(id)}`)
  }
  if (envelope.content === undefined) findings.error('content', 'it describes no machine')
  for (const id of repeated(envelope.systems.map((system) => system.id))) {
    findings.error('id-unique', `two machines have the id ${quoted(id)}`)
  }
  for (const system of envelope.systems) checkSystem(envelope, system, findings)
  for (const { name, namespace, required, line } of envelope.unknown) {
    if (required) {
      findings.warning(
        'unknown-section',
        `the section ${quoted(name)} of ${quoted(namespace)} must be understood, and is not known here`,
        { line },
      )
    }
  }
}

function checkText({ document: { root } }: Envelope, findings: Findings): void {
  const seen = new Set<string>()
  const visit = (element: XmlElement) => {
    for (const uri of [element.uri, ...element.attributes.map((attribute) => attribute.uri)]) {
      if (!uri.startsWith(unboundNamespace) || seen.has(uri)) continue
      seen.add(uri)
      findings.error('namespace', `the prefix ${quoted(uri.slice(unboundNamespace.length))} is bound to no namespace`, {
        line: element.line,
      })
    }
    for (const child of element.children) visit(child)
  }
  visit(root)
  const order = root.children.map((child) => nameOf(child))
  const firstContent = order.findIndex((name) => /^VirtualSystem/.test(name))
  if (order[0] !== 'References')
    findings.warning('section-order', 'References is not the first section', { line: root.children[0]?.line })
  const late = order.findLastIndex((name) => /^(?:References|DiskSection|NetworkSection)$/.test(name))
  if (firstContent >= 0 && late > firstContent) {
    findings.error('section-order', `${order[late]} stands behind the machine`, { line: root.children[late]?.line })
  }
}

function checkReferences({ files }: Envelope, path: string, findings: Findings): void {
  for (const id of repeated(files.map((file) => file.id)))
    findings.error('id-unique', `two files have the id ${quoted(id)}`)
  for (const href of repeated(files.map((file) => file.href)))
    findings.warning('href-unique', `two files have the name ${quoted(href)}`)
  for (const { id, href, compression, line } of files) {
    if (id === '') findings.error('id', 'a file has no id', { line })
    if (href === '') findings.error('href', `the file ${quoted(id)} has no name`, { line })
    else {
      try {
        packageName(href, path)
      } catch {
        findings.error('href', `the file ${quoted(id)} lies outside the package: ${quoted(href)}`, { line })
      }
    }
    if (!['identity', 'gzip', 'bzip2'].includes(compression)) {
      findings.error(
        'compression',
        `the file ${quoted(id)} is compressed by ${quoted(compression)}, which is not known`,
        { line },
      )
    }
  }
}

function checkDisks({ files, disks }: Envelope, path: string, findings: Findings): void {
  for (const id of repeated(disks.map((disk) => disk.id)))
    findings.error('id-unique', `two disks have the id ${quoted(id)}`)
  const known = new Set(files.map((file) => file.id))
  const byId = new Map(disks.map((disk) => [disk.id, disk]))
  for (const disk of disks) {
    const { id, line } = disk
    const place = { line }
    if (id === '') findings.error('id', 'a disk has no id', place)
    if (disk.fileRef !== undefined && !known.has(disk.fileRef)) {
      findings.error(
        'reference',
        `the disk ${quoted(id)} names the file ${quoted(disk.fileRef)}, which is not among the references`,
        place,
      )
    }
    if (disk.capacity === undefined) findings.error('capacity', `the disk ${quoted(id)} has no capacity`, place)
    else
      attempt(
        () => diskCapacity(disk, path),
        (said) => findings.error('capacity', `the disk ${quoted(id)}: ${said}`, place),
      )
    if (disk.format === undefined) findings.warning('disk-format', `the disk ${quoted(id)} names no format`, place)
    if (disk.parentRef !== undefined) checkParents(disk.id, byId, findings, line)
  }
}

function checkParents(
  id: string,
  byId: ReadonlyMap<string, { parentRef: string | undefined }>,
  findings: Findings,
  line: number,
): void {
  const seen = new Set<string>([id])
  for (let at = byId.get(id)?.parentRef; at !== undefined; at = byId.get(at)?.parentRef) {
    if (seen.has(at)) {
      findings.error('parent', `the parents of the disk ${quoted(id)} make a loop`, { line })
      return
    }
    seen.add(at)
    if (!byId.has(at)) {
      findings.error('parent', `the disk ${quoted(id)} stands over ${quoted(at)}, which is not there`, { line })
      return
    }
  }
}

function attempt(work: () => unknown, said: (reason: string) => void): void {
  try {
    work()
  } catch (error) {
    if (!isMoraineError(error)) throw error
    said(error.value === undefined ? error.reason : `${error.reason}, ${quoted(String(error.value))}`)
  }
}

function checkSystem(envelope: Envelope, system: VirtualSystem, findings: Findings): void {
  const place = { line: system.line }
  const { id, hardware } = system
  if (id === '') findings.error('id', 'a machine has no id', place)
  if (hardware.length === 0) findings.warning('hardware', `the machine ${quoted(id)} has no hardware`, place)
  for (const section of hardware) checkHardware(envelope, section, findings)
  for (const key of repeated(system.products.flatMap(({ properties }) => properties.map((property) => property.id)))) {
    findings.error('property-unique', `two properties have the key ${quoted(key)}`, place)
  }
  for (const { id: key, type, value } of system.products.flatMap(({ properties }) => properties)) {
    // An empty value is one that is not given yet. Types of others' are not known here.
    if (value === undefined || value === '' || isPropertyValue(type, value)) continue
    findings.warning(
      'property-value',
      `the property ${quoted(key)} has the value ${quoted(value)}, which is no ${type}`,
      place,
    )
  }
}

/** Items that bound a quantity repeat it, and so do those of single deployment options. */
function isPlain({ bound, configurations }: HardwareItem): boolean {
  return (bound === undefined || bound === 'normal') && configurations.length === 0
}

function checkHardware(envelope: Envelope, { items, families, line }: HardwareSection, findings: Findings): void {
  const plain = items.filter(isPlain)
  if (families.length === 0)
    findings.warning('hardware-family', 'the hardware names no family (VirtualSystemType)', { line })
  for (const id of repeated(plain.flatMap(({ instanceId }) => instanceId ?? []))) {
    findings.error('instance-unique', `two items have the InstanceID ${quoted(id)}`, { line })
  }
  const instances = new Set(items.map(({ instanceId }) => instanceId))
  const slots = plain.flatMap(({ parent, addressOnParent, kind }) =>
    parent === undefined || addressOnParent === undefined || kind === 'nic' ? [] : [`${addressOnParent} of ${parent}`],
  )
  for (const slot of repeated(slots)) findings.error('slot-unique', `two devices are in slot ${quoted(slot)}`, { line })
  for (const item of items) checkItem(envelope, item, instances, findings)
  for (const kind of ['cpu', 'memory'] as const) {
    if (items.length > 0 && !items.some((item) => item.kind === kind))
      findings.warning('hardware', `the hardware has no ${kind}`, { line })
  }
}

function checkItem(
  envelope: Envelope,
  item: HardwareItem,
  instances: ReadonlySet<string | undefined>,
  findings: Findings,
): void {
  const place = { line: item.line }
  const name = quoted(item.elementName ?? item.instanceId)
  if (item.instanceId === undefined) findings.error('instance', `the item ${name} has no InstanceID`, place)
  if (item.resourceType === undefined) findings.error('resource-type', `the item ${name} has no ResourceType`, place)
  if (item.elementName === undefined) findings.warning('element-name', `the item ${name} has no ElementName`, place)
  if (item.parent !== undefined && !instances.has(item.parent)) {
    findings.error('item-parent', `the item ${name} hangs on ${quoted(item.parent)}, which is not there`, place)
  }
  for (const text of item.hostResources) {
    const named = hostResource(text)
    // A device of the host, as a drive of its own has it.
    if (named === undefined) continue
    const known = named.kind === 'disk' ? envelope.disks : envelope.files
    if (!known.some(({ id }) => id === named.id)) {
      findings.error(
        'reference',
        `the item ${name} names the ${named.kind} ${quoted(named.id)}, which is not there`,
        place,
      )
    }
  }
  for (const connection of item.connections) {
    if (item.kind === 'nic' && !envelope.networks.some((network) => network.name === connection)) {
      findings.error(
        'reference',
        `the item ${name} is connected to ${quoted(connection)}, which is not among the networks`,
        place,
      )
    }
  }
}
