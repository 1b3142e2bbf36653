/** A virtual system as a machine: what a deployment with the default option gives. Facts: DSP0243 2.1, section 8; VMware's and VirtualBox's own words for firmware and controllers. */
import { capacityBytes } from './capacity.ts'
import type { VirtualSystem } from './content.ts'
import { defaultOption, type Envelope } from './envelope.ts'
import type { HardwareItem, HardwareSection } from './hardware.ts'
import type { OvfDisk, OvfFile } from './references.ts'

/** The bus of a disk. */
export type ControllerKind = 'ide' | 'scsi' | 'sata' | 'nvme' | 'usb' | 'floppy' | 'virtio' | 'other'

/** What disks and drives hang on. */
export interface MachineController {
  instanceId: string | undefined
  kind: ControllerKind
  /** `lsilogic`, `VirtualSCSI`, `AHCI` … */
  subType: string | undefined
  /** Its number among those of its kind. */
  bus: number
}

/** A disk or drive. */
export interface MachineDrive {
  kind: 'disk' | 'cd' | 'floppy'
  name: string | undefined
  /** The short name of its image in the package: `disk1`, counted over the disks that have a file. */
  alias: string | undefined
  diskId: string | undefined
  /** The file of the package that holds it. */
  file: string | undefined
  /** Bytes of the guest's disk; undefined where nothing says it, or a property does that has no value. */
  capacity: number | undefined
  controller: MachineController | undefined
  slot: number | undefined
}

/** A network adapter. */
export interface MachineNic {
  network: string | undefined
  /** `VmxNet3`, `E1000` … */
  model: string | undefined
  address: string | undefined
}

/** A machine. */
export interface Machine {
  id: string
  name: string
  families: readonly string[]
  os: VirtualSystem['os']
  firmware: 'bios' | 'efi' | undefined
  cpus: number | undefined
  coresPerSocket: number | undefined
  /** Bytes. */
  memory: number | undefined
  controllers: readonly MachineController[]
  /** In the order of controllers and slots: what it boots from comes first. */
  drives: readonly MachineDrive[]
  nics: readonly MachineNic[]
  /** Other devices by kind, and how many there are. */
  others: Readonly<Record<string, number>>
  system: VirtualSystem
}

/** The short names of disks by their ids, in the order of the descriptor: those of disks that have a file. */
export function diskAliases({ disks }: Pick<Envelope, 'disks'>): Map<string, string> {
  const aliases = new Map<string, string>()
  for (const { id, fileRef } of disks) {
    if (fileRef !== undefined && !aliases.has(id)) aliases.set(id, `disk${aliases.size + 1}`)
  }
  return aliases
}

/** What an item's `HostResource` names: a disk or a file by its id. Facts: DSP0243 2.1, section 8.4 (`ovf:/disk/ID`); producers write `/disk/ID` too. */
export function hostResource(text: string): { kind: 'disk' | 'file'; id: string } | undefined {
  const [, kind, id] = /^(?:ovf:)?\/*(disk|file)\/(.+)$/.exec(text.trim()) ?? []
  return kind === undefined || id === undefined ? undefined : { kind: kind as 'disk' | 'file', id }
}

/** The machines of a package.
 *  @throws MoraineError `invalid` for amounts that are none. */
export function readMachines(envelope: Envelope, path: string): Machine[] {
  return envelope.systems.map((system) => readMachine(envelope, system, path))
}

function readMachine(envelope: Envelope, system: VirtualSystem, path: string): Machine {
  const [hardware] = system.hardware
  const option = defaultOption(envelope)?.id
  const items = (hardware?.items ?? []).filter(
    ({ bound, configurations }) =>
      (bound === undefined || bound === 'normal') &&
      (configurations.length === 0 || option === undefined || configurations.includes(option)),
  )
  // What counts for this deployment option alone stands behind what counts for all.
  const last = (kind: HardwareItem['kind']) => items.findLast((item) => item.kind === kind)
  const cpu = last('cpu')
  const memory = last('memory')
  const properties = propertyValues(system, option)
  const controllers = readControllers(items)
  const drives = readDrives(envelope, items, controllers, (disk) => diskCapacity(disk, path, properties))
  return {
    id: system.id,
    name: system.name ?? hardware?.identifier ?? system.id,
    families: hardware?.families ?? [],
    os: system.os,
    firmware: firmwareOf(system, hardware),
    cpus: amount(cpu, path),
    coresPerSocket: cpu?.coresPerSocket,
    memory: memory?.quantity === undefined ? undefined : memoryBytes(memory, memory.quantity, path, properties),
    controllers: [...controllers.values()],
    drives,
    nics: items
      .filter(({ kind }) => kind === 'nic')
      .map(({ connections, subTypes, address }) => ({ network: connections[0], model: subTypes[0], address })),
    others: countOthers(items),
    system,
  }
}

function propertyValues(system: VirtualSystem, option: string | undefined): (name: string) => string | undefined {
  const all = system.products.flatMap(({ properties }) => properties)
  return (name) => {
    const found = all.find(({ id }) => id === name) ?? all.find(({ key }) => key === name)
    return (option === undefined ? undefined : found?.values[option]) ?? found?.value
  }
}

/** The capacity of a disk as the descriptor says it, in bytes.
 *  @throws MoraineError `invalid`. */
export function diskCapacity(
  disk: OvfDisk,
  path: string,
  properties?: (name: string) => string | undefined,
): number | undefined {
  if (disk.capacity === undefined || disk.capacity === '') return undefined
  return capacityBytes({ capacity: disk.capacity, units: disk.capacityUnits }, { path, field: 'capacity' }, properties)
}

function amount(item: HardwareItem | undefined, path: string): number | undefined {
  if (item?.quantity === undefined) return undefined
  return capacityBytes({ capacity: item.quantity, units: undefined }, { path, field: 'VirtualQuantity' })
}

function memoryBytes(
  item: HardwareItem,
  quantity: string,
  path: string,
  properties: (name: string) => string | undefined,
) {
  // Without a unit it is megabytes by custom: no machine has 512 bytes.
  return capacityBytes(
    { capacity: quantity, units: item.units ?? 'byte * 2^20' },
    { path, field: 'VirtualQuantity' },
    properties,
  )
}

function firmwareOf({ virtualBoxFirmware }: VirtualSystem, hardware: HardwareSection | undefined): Machine['firmware'] {
  const said = (hardware?.config.firmware ?? virtualBoxFirmware)?.toLowerCase()
  if (said === undefined) return undefined
  return said.startsWith('efi') ? 'efi' : said === 'bios' ? 'bios' : undefined
}

function controllerKind({ kind, subTypes }: HardwareItem): ControllerKind | undefined {
  if (kind === 'ide' || kind === 'scsi') return kind
  if (kind !== 'storage-controller') return undefined
  const subType = subTypes.join(' ').toLowerCase()
  if (/nvme/.test(subType)) return 'nvme'
  if (/ahci|sata/.test(subType)) return 'sata'
  if (/usb/.test(subType)) return 'usb'
  if (/virtio/.test(subType)) return 'virtio'
  return /sas|scsi/.test(subType) ? 'scsi' : 'other'
}

function readControllers(items: readonly HardwareItem[]): Map<HardwareItem, MachineController> {
  const controllers = new Map<HardwareItem, MachineController>()
  const counts = new Map<ControllerKind, number>()
  for (const item of items) {
    const kind = controllerKind(item)
    if (kind === undefined) continue
    const bus = counts.get(kind) ?? 0
    counts.set(kind, bus + 1)
    controllers.set(item, { instanceId: item.instanceId, kind, subType: item.subTypes[0], bus })
  }
  return controllers
}

const driveKinds: Partial<Record<HardwareItem['kind'], MachineDrive['kind']>> = {
  disk: 'disk',
  'logical-disk': 'disk',
  'storage-volume': 'disk',
  cd: 'cd',
  dvd: 'cd',
  floppy: 'floppy',
}

function readDrives(
  envelope: Envelope,
  items: readonly HardwareItem[],
  controllers: ReadonlyMap<HardwareItem, MachineController>,
  capacityOf: (disk: OvfDisk) => number | undefined,
): MachineDrive[] {
  const aliases = diskAliases(envelope)
  const disks = new Map<string, OvfDisk>(envelope.disks.map((disk) => [disk.id, disk]))
  const files = new Map<string, OvfFile>(envelope.files.map((file) => [file.id, file]))
  const byInstance = new Map([...controllers].map(([{ instanceId }, controller]) => [instanceId, controller]))
  const order = [...controllers.values()]
  const drives: MachineDrive[] = []
  for (const item of items) {
    const kind = driveKinds[item.kind]
    if (kind === undefined) continue
    const named = item.hostResources.map(hostResource).find((resource) => resource !== undefined)
    const disk = named?.kind === 'disk' ? disks.get(named.id) : undefined
    const file = named?.kind === 'file' ? named.id : disk?.fileRef
    const slot = item.addressOnParent
    drives.push({
      kind,
      name: item.elementName,
      alias: disk === undefined ? undefined : aliases.get(disk.id),
      diskId: named?.kind === 'disk' ? named.id : undefined,
      file: file === undefined ? undefined : files.get(file)?.href,
      capacity: disk === undefined ? undefined : capacityOf(disk),
      controller: item.parent === undefined ? undefined : byInstance.get(item.parent),
      slot: slot !== undefined && /^[0-9]{1,6}$/.test(slot) ? Number(slot) : undefined,
    })
  }
  const place = ({ controller }: MachineDrive) => (controller === undefined ? order.length : order.indexOf(controller))
  return drives.sort((a, b) => place(a) - place(b) || (a.slot ?? 0) - (b.slot ?? 0))
}

const shown = new Set<HardwareItem['kind']>(['cpu', 'memory', 'nic'])

function countOthers(items: readonly HardwareItem[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const item of items) {
    if (shown.has(item.kind) || item.kind in driveKinds || controllerKind(item) !== undefined) continue
    const name = item.kind === 'unknown' ? `resource ${item.resourceType ?? 'of no type'}` : item.kind
    counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}
