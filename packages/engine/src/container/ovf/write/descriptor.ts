/** The descriptor of a new appliance: OVF 1.1, as everybody imports it. Children of items stand in the order of the alphabet, which strict importers validate. Facts: DSP0243 1.1. */
import { escapeXml } from '../../../codec/xml/escape.ts'
import { MoraineError } from '../../../core/index.ts'
import { ovfNamespaces, vmwareNamespace } from '../xml.ts'
import type { LaidOutMachine, NewMachine } from './machine-spec.ts'
import { annotationXml, eulaXml, productXml, transportOf } from './product.ts'

/** The URI of streamOptimized VMDK. */
export const streamOptimizedUri = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized'

/** A disk as the descriptor has it. Sizes in bytes. */
export interface DescribedDisk {
  href: string
  /** Of the file. */
  size: number
  capacity: number
  populated?: number | undefined
  format: string
}

const rasd = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData'
const vssd = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData'

type Fields = Readonly<Record<string, string | number | undefined>>

/** One item of hardware, its children in order. */
export function itemXml(
  fields: Fields,
  required: boolean,
  indent: string,
  prefixes: { item: string; rasd: string; ovf: string } = { item: '', rasd: 'rasd:', ovf: 'ovf:' },
): string {
  const lines = Object.entries(fields)
    .filter((field): field is [string, string | number] => field[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${indent}  <${prefixes.rasd}${name}>${escapeXml(String(value))}</${prefixes.rasd}${name}>`)
  const tag = `${prefixes.item}Item`
  return [
    `${indent}<${tag}${required ? '' : ` ${prefixes.ovf}required="false"`}>`,
    ...lines,
    `${indent}</${tag}>`,
  ].join('\n')
}

/** The fields of the item that says how many processors there are. */
export function cpuFields(cpus: number, instance: number): Fields {
  return {
    AllocationUnits: 'hertz * 10^6',
    Description: 'Number of Virtual CPUs',
    ElementName: `${cpus} virtual CPU(s)`,
    InstanceID: instance,
    ResourceType: 3,
    VirtualQuantity: cpus,
  }
}

/** The fields of the item that says how much memory there is. */
export function memoryFields(bytes: number, instance: number): Fields {
  const mebibytes = bytes / (1024 * 1024)
  return {
    AllocationUnits: 'byte * 2^20',
    Description: 'Memory Size',
    ElementName: `${mebibytes}MB of memory`,
    InstanceID: instance,
    ResourceType: 4,
    VirtualQuantity: mebibytes,
  }
}

/** The fields of a network adapter. `slot` is its `AddressOnParent`. */
export function nicFields(
  { network, model }: { network: string; model: string },
  number: number,
  instance: number,
): Fields {
  return {
    AddressOnParent: 6 + number,
    AutomaticAllocation: 'true',
    Connection: network,
    Description: `${model} ethernet adapter on "${network}"`,
    ElementName: `Network adapter ${number}`,
    InstanceID: instance,
    ResourceSubType: model,
    ResourceType: 10,
  }
}

function hardwareItems({ machine, controller, controllers, disks, nics }: LaidOutMachine): string[] {
  const indent = '      '
  const items: string[] = []
  let instance = 0
  const add = (fields: (instance: number) => Fields, required = true): number => {
    instance++
    items.push(itemXml(fields(instance), required, indent))
    return instance
  }
  add((id) => cpuFields(machine.cpus, id))
  add((id) => memoryFields(machine.memory, id))
  const parents = Array.from({ length: controllers }, (_, address) =>
    add((id) => ({
      Address: address,
      Description: controller.title,
      ElementName: `${controller.title} ${address}`,
      InstanceID: id,
      ResourceSubType: controller.subType,
      ResourceType: controller.resourceType,
    })),
  )
  for (const { number, controller: at, slot } of disks) {
    add((id) => ({
      AddressOnParent: slot,
      Description: 'Disk Image',
      ElementName: `Hard Disk ${number}`,
      HostResource: `ovf:/disk/vmdisk${number}`,
      InstanceID: id,
      Parent: parents[at],
      ResourceType: 17,
    }))
  }
  if (machine.cd === true) {
    const parent = add((id) => ({
      Address: 1,
      Description: 'IDE Controller',
      ElementName: 'IDE Controller 1',
      InstanceID: id,
      ResourceSubType: 'PIIX4',
      ResourceType: 5,
    }))
    add(
      (id) => ({
        AddressOnParent: 0,
        AutomaticAllocation: 'true',
        Description: 'CD/DVD Drive',
        ElementName: 'CD/DVD Drive 1',
        InstanceID: id,
        Parent: parent,
        ResourceType: 15,
      }),
      false,
    )
  }
  for (const [index, nic] of nics.entries()) add((id) => nicFields(nic, index + 1, id))
  return items
}

/** The lines of VMware's settings. */
function configLines({ machine }: LaidOutMachine): string[] {
  const line = (key: string, value: string) =>
    `      <vmw:Config ovf:required="false" vmw:key="${key}" vmw:value="${value}"/>`
  const lines = [line('firmware', machine.firmware)]
  if (machine.firmware === 'efi')
    lines.push(line('bootOptions.efiSecureBootEnabled', machine.secureBoot === true ? 'true' : 'false'))
  return lines
}

const hasProperties = ({ properties = [] }: NewMachine): boolean => properties.length > 0

/** What the machine says of what is in it. */
function softwareSections(machine: NewMachine): string[] {
  const { product = {}, properties = [], eulas = [], annotation } = machine
  const placing = { prefix: '', indent: '    ' }
  const sections = eulas.map((licence) => eulaXml(licence, placing))
  if (Object.values(product).some((text) => text !== undefined) || properties.length > 0)
    sections.unshift(productXml(product, properties, placing))
  if (annotation !== undefined) sections.push(annotationXml(annotation, placing))
  return sections
}

/** Writes a descriptor of exactly `length` bytes where that is given: it is filled up with blanks before its end.
 *  @throws MoraineError `invalid` for texts that XML cannot have. */
export function writeDescriptor(laid: LaidOutMachine, disks: readonly DescribedDisk[], length?: number): Uint8Array {
  const { machine, system, family, networks } = laid
  const { target } = machine
  const [name, id] = [escapeXml(machine.name), escapeXml(machine.name.trim().replace(/\s+/g, '_'))]
  const head = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<Envelope xmlns="${ovfNamespaces['1.0']}" xmlns:ovf="${ovfNamespaces['1.0']}" xmlns:rasd="${rasd}" xmlns:vssd="${vssd}" xmlns:vmw="${vmwareNamespace}"${
      target.virtualbox ? ' xmlns:vbox="http://www.virtualbox.org/ovf/machine"' : ''
    }>`,
    '  <References>',
    ...disks.map(
      ({ href, size }, index) =>
        `    <File ovf:href="${escapeXml(href)}" ovf:id="file${index + 1}" ovf:size="${size}"/>`,
    ),
    '  </References>',
    '  <DiskSection>',
    '    <Info>Virtual disks</Info>',
    ...disks.map(({ capacity, populated, format }, index) => {
      const filled = populated === undefined ? '' : ` ovf:populatedSize="${populated}"`
      return `    <Disk ovf:capacity="${capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk${index + 1}" ovf:fileRef="file${index + 1}" ovf:format="${format}"${filled}/>`
    }),
    '  </DiskSection>',
    '  <NetworkSection>',
    '    <Info>Logical networks</Info>',
    ...networks.map(
      (network) =>
        `    <Network ovf:name="${escapeXml(network)}">\n      <Description>The network ${escapeXml(network)}</Description>\n    </Network>`,
    ),
    '  </NetworkSection>',
    `  <VirtualSystem ovf:id="${id}">`,
    '    <Info>A virtual machine</Info>',
    `    <Name>${name}</Name>`,
    `    <OperatingSystemSection ovf:id="${system.cim}"${target.virtualbox ? '' : ` vmw:osType="${system.vmware}"`}>`,
    '      <Info>The operating system</Info>',
    `      <Description>${escapeXml(system.title)}</Description>`,
    ...(target.virtualbox ? [`      <vbox:OSType ovf:required="false">${system.virtualbox}</vbox:OSType>`] : []),
    '    </OperatingSystemSection>',
    `    <VirtualHardwareSection${hasProperties(machine) ? ` ovf:transport="${transportOf(machine.cd === true)}"` : ''}>`,
    '      <Info>Virtual hardware</Info>',
    '      <System>',
    '        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>',
    '        <vssd:InstanceID>0</vssd:InstanceID>',
    `        <vssd:VirtualSystemIdentifier>${name}</vssd:VirtualSystemIdentifier>`,
    `        <vssd:VirtualSystemType>${family}</vssd:VirtualSystemType>`,
    '      </System>',
    ...hardwareItems(laid),
    ...(target.saysFirmware ? configLines(laid) : []),
    '    </VirtualHardwareSection>',
    ...softwareSections(machine),
    '  </VirtualSystem>',
  ].join('\n')
  const encoder = new TextEncoder()
  const tail = '</Envelope>\n'
  const plain = encoder.encode(`${head}\n${tail}`)
  if (length === undefined || plain.length === length) return plain
  if (plain.length > length)
    throw new MoraineError('io', 'the descriptor became longer than was planned', {
      field: 'bytes',
      value: plain.length,
      rule: `at most ${length}`,
    })
  return encoder.encode(`${head}${' '.repeat(length - plain.length)}\n${tail}`)
}
