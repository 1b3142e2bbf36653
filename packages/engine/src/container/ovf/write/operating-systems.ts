/** Systems of guests by a short name, with what descriptors call them. Facts: CIM_OperatingSystem's OSType (numbers), VMware's guest ids and VirtualBox's OS types as their exports have them. */

/** What a system is called. */
export interface GuestSystem {
  /** For people, and in the descriptor. */
  title: string
  /** CIM's number. */
  cim: number
  vmware: string
  virtualbox: string
  /** It brings no drivers for paravirtual devices. */
  windows?: true
}

/** By the name that `--os` takes. */
export const guestSystems: Readonly<Record<string, GuestSystem>> = {
  linux: { title: 'Other Linux (64-bit)', cim: 101, vmware: 'otherLinux64Guest', virtualbox: 'Linux_64' },
  ubuntu: { title: 'Ubuntu Linux (64-bit)', cim: 94, vmware: 'ubuntu64Guest', virtualbox: 'Ubuntu_64' },
  debian: { title: 'Debian GNU/Linux (64-bit)', cim: 96, vmware: 'debian10_64Guest', virtualbox: 'Debian_64' },
  rhel: { title: 'Red Hat Enterprise Linux (64-bit)', cim: 80, vmware: 'rhel7_64Guest', virtualbox: 'RedHat_64' },
  centos: { title: 'CentOS (64-bit)', cim: 107, vmware: 'centos7_64Guest', virtualbox: 'RedHat_64' },
  oracle: { title: 'Oracle Linux (64-bit)', cim: 109, vmware: 'oracleLinux7_64Guest', virtualbox: 'Oracle_64' },
  sles: { title: 'SUSE Linux Enterprise (64-bit)', cim: 85, vmware: 'sles12_64Guest', virtualbox: 'OpenSUSE_64' },
  freebsd: { title: 'FreeBSD (64-bit)', cim: 78, vmware: 'freebsd64Guest', virtualbox: 'FreeBSD_64' },
  windows: {
    title: 'Microsoft Windows 10 (64-bit)',
    cim: 1,
    vmware: 'windows9_64Guest',
    virtualbox: 'Windows10_64',
    windows: true,
  },
  'windows-server': {
    title: 'Microsoft Windows Server 2016 (64-bit)',
    cim: 112,
    vmware: 'windows9Server64Guest',
    virtualbox: 'Windows2016_64',
    windows: true,
  },
  other: { title: 'Other (64-bit)', cim: 102, vmware: 'otherGuest64', virtualbox: 'Other_64' },
}
