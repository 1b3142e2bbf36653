/** Virtual hardware: the section and its items. Facts: DSP0243 2.1, section 8; DSP1041 and DSP0200's CIM_ResourceAllocationSettingData for the kinds of resources. */
import { childrenOf, type XmlElement } from '../../codec/xml/document.ts'
import { isRequired, nameOf, ovfAttribute, vmwareAttribute } from './xml.ts'

/** Kinds of resources, by `ResourceType`, as far as descriptors have them. */
export const resourceKinds = {
  1: 'other',
  3: 'cpu',
  4: 'memory',
  5: 'ide',
  6: 'scsi',
  10: 'nic',
  14: 'floppy',
  15: 'cd',
  16: 'dvd',
  17: 'disk',
  18: 'tape',
  19: 'storage-extent',
  20: 'storage-controller',
  21: 'serial',
  22: 'parallel',
  23: 'usb',
  24: 'graphics',
  31: 'logical-disk',
  32: 'storage-volume',
  35: 'sound',
} as const

/** A kind of resource. */
export type ResourceKind = (typeof resourceKinds)[keyof typeof resourceKinds] | 'unknown'

/** One item of virtual hardware. Texts are as they stand, blanks around them taken off. */
export interface HardwareItem {
  /** `Item`, or one of OVF 2.0's own for disks and networks. */
  element: 'Item' | 'StorageItem' | 'EthernetPortItem'
  kind: ResourceKind
  resourceType: number | undefined
  /** Several may be named, the first that is known is meant. */
  subTypes: readonly string[]
  instanceId: string | undefined
  elementName: string | undefined
  description: string | undefined
  quantity: string | undefined
  units: string | undefined
  address: string | undefined
  parent: string | undefined
  addressOnParent: string | undefined
  /** Networks of a NIC. */
  connections: readonly string[]
  /** `ovf:/disk/ID`, `ovf:/file/ID`. */
  hostResources: readonly string[]
  coresPerSocket: number | undefined
  /** An importer may leave it out where this is false. */
  required: boolean
  /** The deployment options in which it counts; in all where none is named. */
  configurations: readonly string[]
  /** `min`, `max` or `normal`: it bounds a quantity and is no device of its own. */
  bound: string | undefined
  /** VMware's settings of the device. */
  config: Readonly<Record<string, string>>
  line: number
}

/** One hardware section; a system may offer several, of which an importer chooses. */
export interface HardwareSection {
  /** What the machine is: `vmx-13`, `virtualbox-2.2`. */
  families: readonly string[]
  identifier: string | undefined
  /** How properties reach the guest: `iso`, `com.vmware.guestInfo`. */
  transports: readonly string[]
  items: readonly HardwareItem[]
  /** VMware's settings of the machine, `ExtraConfig` too. */
  config: Readonly<Record<string, string>>
  line: number
}

const words = (text: string | undefined): string[] => (text ?? '').split(/[\s,]+/).filter((word) => word !== '')

/** Reads a hardware section. */
export function readHardware(section: XmlElement): HardwareSection {
  const system = section.children.find(({ local }) => local === 'System')
  const text = (local: string) => system?.children.find((child) => child.local === local)?.text.trim() || undefined
  return {
    families: words(text('VirtualSystemType')),
    identifier: text('VirtualSystemIdentifier'),
    transports: words(ovfAttribute(section, 'transport')),
    items: section.children.filter(isItem).map(readItem),
    config: readConfig(section),
    line: section.line,
  }
}

function isItem({ local }: XmlElement): boolean {
  return local === 'Item' || local === 'StorageItem' || local === 'EthernetPortItem'
}

function readItem(item: XmlElement): HardwareItem {
  const text = (...locals: string[]): string | undefined => {
    for (const child of item.children) if (locals.includes(child.local)) return child.text.trim() || undefined
    return undefined
  }
  const all = (local: string) => childrenOf(item, local).map((child) => child.text.trim())
  const type = text('ResourceType')
  const resourceType = type !== undefined && /^[0-9]{1,5}$/.test(type) ? Number(type) : undefined
  const cores = item.children.find(({ local }) => local === 'CoresPerSocket')?.text.trim() ?? ''
  return {
    element: item.local as HardwareItem['element'],
    kind:
      (resourceType === undefined ? undefined : (resourceKinds as Record<number, ResourceKind>)[resourceType]) ??
      'unknown',
    resourceType,
    subTypes: words(text('ResourceSubType')),
    // 0.9 spells it so.
    instanceId: text('InstanceID', 'InstanceId'),
    elementName: text('ElementName') ?? text('Caption'),
    description: text('Description'),
    quantity: text('VirtualQuantity'),
    units: text('AllocationUnits', 'VirtualQuantityUnits'),
    address: text('Address') ?? text('BusNumber'),
    parent: text('Parent'),
    addressOnParent: text('AddressOnParent'),
    connections: all('Connection'),
    hostResources: all('HostResource'),
    coresPerSocket: /^[1-9][0-9]{0,5}$/.test(cores) ? Number(cores) : undefined,
    required: isRequired(item),
    configurations: words(ovfAttribute(item, 'configuration')),
    bound: ovfAttribute(item, 'bound') || undefined,
    config: readConfig(item),
    line: item.line,
  }
}

function readConfig(element: XmlElement): Record<string, string> {
  const config: Record<string, string> = {}
  for (const child of element.children) {
    if (!/^(?:Extra)?Config$/.test(nameOf(child))) continue
    const key = vmwareAttribute(child, 'key') ?? ovfAttribute(child, 'key')
    // Whoever writes `__proto__` gets no more than an own member of that name.
    if (key !== undefined)
      Object.defineProperty(config, key, {
        value: vmwareAttribute(child, 'value') ?? ovfAttribute(child, 'value') ?? '',
        enumerable: true,
        configurable: true,
        writable: true,
      })
  }
  return config
}
