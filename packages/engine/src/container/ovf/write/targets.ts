/** What those who import appliances want of a machine. Facts: exports of VMware's ovftool and of VirtualBox, open-vmdk's templates, the sources of Proxmox' and libguestfs' importers. */

/** A controller for disks. */
export interface TargetController {
  kind: 'scsi' | 'sata' | 'ide' | 'nvme'
  resourceType: 5 | 6 | 20
  subType: string
  title: string
  /** Slots that take a disk. */
  slots: readonly number[]
  /** How many of it there may be. */
  most: number
}

/** One who imports. */
export interface ApplianceTarget {
  readonly name: string
  readonly aliases: readonly string[]
  readonly title: string
  /** `VirtualSystemType`. */
  readonly family: string
  readonly controller: keyof typeof controllers
  /** For systems without paravirtual drivers. */
  readonly controllerForWindows: keyof typeof controllers
  readonly nic: string
  readonly nicForWindows: string
  /** The network where none is named. */
  readonly network: string
  /** Whether the descriptor can say that the firmware is EFI. */
  readonly saysFirmware: boolean
  /** Whether it takes notes of VirtualBox's. */
  readonly virtualbox: boolean
}

const upTo = (count: number) => Array.from({ length: count }, (_, slot) => slot)

/** Controllers by the names that `--controller` takes. Slot 7 of a SCSI controller is its own. */
export const controllers = {
  pvscsi: {
    kind: 'scsi',
    resourceType: 6,
    subType: 'VirtualSCSI',
    title: 'SCSI Controller',
    slots: upTo(16).filter((slot) => slot !== 7),
    most: 4,
  },
  lsilogic: {
    kind: 'scsi',
    resourceType: 6,
    subType: 'lsilogic',
    title: 'SCSI Controller',
    slots: upTo(16).filter((slot) => slot !== 7),
    most: 4,
  },
  lsilogicsas: {
    kind: 'scsi',
    resourceType: 6,
    subType: 'lsilogicsas',
    title: 'SCSI Controller',
    slots: upTo(16).filter((slot) => slot !== 7),
    most: 4,
  },
  sata: { kind: 'sata', resourceType: 20, subType: 'AHCI', title: 'SATA Controller', slots: upTo(30), most: 1 },
  vmwaresata: {
    kind: 'sata',
    resourceType: 20,
    subType: 'vmware.sata.ahci',
    title: 'SATA Controller',
    slots: upTo(30),
    most: 4,
  },
  nvme: {
    kind: 'nvme',
    resourceType: 20,
    subType: 'vmware.nvme.controller',
    title: 'NVMe Controller',
    slots: upTo(15),
    most: 4,
  },
  ide: { kind: 'ide', resourceType: 5, subType: 'PIIX4', title: 'IDE Controller', slots: upTo(2), most: 2 },
} as const satisfies Record<string, TargetController>

/** The name of a controller. */
export type ControllerName = keyof typeof controllers

/** Everyone who is known. */
export const applianceTargets: readonly ApplianceTarget[] = [
  {
    name: 'vmware',
    aliases: ['esxi', 'vsphere', 'workstation', 'fusion'],
    title: 'VMware vSphere, ESXi, Workstation and Fusion',
    family: 'vmx-13',
    controller: 'pvscsi',
    controllerForWindows: 'lsilogicsas',
    nic: 'VmxNet3',
    nicForWindows: 'E1000e',
    network: 'VM Network',
    saysFirmware: true,
    virtualbox: false,
  },
  {
    name: 'virtualbox',
    aliases: ['vbox'],
    title: 'Oracle VirtualBox',
    family: 'virtualbox-2.2',
    controller: 'sata',
    controllerForWindows: 'sata',
    nic: 'E1000',
    nicForWindows: 'E1000',
    network: 'NAT',
    saysFirmware: false,
    virtualbox: true,
  },
  {
    name: 'generic',
    aliases: ['proxmox', 'libvirt', 'openstack', 'xcp-ng'],
    title: 'whoever else imports OVF: devices that everybody has',
    family: 'vmx-10',
    controller: 'lsilogic',
    controllerForWindows: 'lsilogicsas',
    nic: 'E1000',
    nicForWindows: 'E1000',
    network: 'default',
    saysFirmware: true,
    virtualbox: false,
  },
]
