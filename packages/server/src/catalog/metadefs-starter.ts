/** The definitions that a new catalog begins with: properties that images commonly carry, so that people and dashboards can pick them from lists. The
 *  documents are in the form of `POST /v2/metadefs/namespaces`; all of them are public and protected. */

interface StarterProperty {
  title: string
  type: 'string' | 'integer' | 'boolean'
  description: string
  enum?: string[]
  default?: string
  minimum?: number
  pattern?: string
  maxLength?: number
}

interface StarterNamespace {
  namespace: string
  display_name: string
  description: string
  resource_type_associations: { name: string; prefix?: string; properties_target?: string }[]
  properties?: Record<string, StarterProperty>
  objects?: { name: string; description: string; required?: string[]; properties: Record<string, StarterProperty> }[]
  tags?: { name: string }[]
}

/** The owner that they are given, as Glance does with those that it comes with. */
export const starterOwner = 'admin'

const image = 'OS::Glance::Image'
const volume = 'OS::Cinder::Volume'
const flavor = 'OS::Nova::Flavor'

/** A volume keeps the properties of the image that it was made of apart from its own. */
const imageAndVolume = (prefix?: string) => [
  { name: image, ...(prefix === undefined ? {} : { prefix }) },
  { name: volume, ...(prefix === undefined ? {} : { prefix }), properties_target: 'image' },
]

const guest: StarterNamespace = {
  namespace: 'Moraine::Guest',
  display_name: 'Operating system',
  description: 'What is installed in the image. Schedulers, dashboards and people choose by it.',
  resource_type_associations: imageAndVolume(),
  properties: {
    os_type: {
      title: 'Family',
      type: 'string',
      description: 'Family of the operating system; it decides how clocks and new file systems are set up.',
      enum: ['linux', 'windows'],
    },
    os_distro: {
      title: 'Distribution',
      type: 'string',
      description: 'Short name in lower case, as libosinfo has it: debian, ubuntu, rhel, fedora, win.',
    },
    os_version: {
      title: 'Version',
      type: 'string',
      description: 'Version as the distributor writes it, as in 12 or 24.04.',
    },
    architecture: {
      title: 'Processor architecture',
      type: 'string',
      description: 'What processor the installed programs are for.',
      enum: ['aarch64', 'armv7l', 'i686', 'loongarch64', 'ppc64le', 'riscv64', 's390x', 'x86_64'],
    },
    os_admin_user: {
      title: 'First user',
      type: 'string',
      description: 'Account that may become the administrator, and gets the SSH keys of a new server.',
    },
    os_require_quiesce: {
      title: 'Quiet snapshots only',
      type: 'boolean',
      description:
        'Snapshots of a running server are taken only while its file systems are held still by the guest agent.',
    },
  },
  tags: [{ name: 'cloud-init' }, { name: 'desktop' }, { name: 'installer' }, { name: 'minimal' }, { name: 'server' }],
}

const devices: StarterNamespace = {
  namespace: 'Moraine::Devices',
  display_name: 'Virtual devices',
  description: 'Which devices the hypervisor shows to the guest. The guest needs drivers for them to start.',
  resource_type_associations: imageAndVolume('hw_'),
  properties: {
    disk_bus: {
      title: 'Bus of disks',
      type: 'string',
      description: 'virtio is the fastest where there are drivers for it; sata and ide need none.',
      enum: ['virtio', 'scsi', 'sata', 'ide', 'usb', 'nvme', 'fdc', 'lxc', 'uml', 'xen'],
    },
    cdrom_bus: {
      title: 'Bus of CD drives',
      type: 'string',
      description: 'Where a configuration drive or an installer shows up.',
      enum: ['sata', 'scsi', 'ide', 'usb', 'virtio'],
    },
    scsi_model: {
      title: 'SCSI controller',
      type: 'string',
      description: 'Model of the controller when disks are on the SCSI bus.',
      enum: ['virtio-scsi', 'buslogic', 'ibmvscsi', 'lsilogic', 'lsisas1068', 'lsisas1078', 'pvscsi', 'vmpvscsi'],
    },
    vif_model: {
      title: 'Network card',
      type: 'string',
      description: 'Model of the network interfaces.',
      enum: ['virtio', 'e1000', 'e1000e', 'rtl8139', 'ne2k_pci', 'pcnet', 'vmxnet3'],
    },
    video_model: {
      title: 'Graphics card',
      type: 'string',
      description: 'Model of the graphics adapter; none is for servers that are reached by a serial console.',
      enum: ['virtio', 'vga', 'qxl', 'bochs', 'cirrus', 'vmvga', 'gop', 'none'],
    },
    machine_type: {
      title: 'Machine type',
      type: 'string',
      description: 'Board that QEMU imitates, as in q35, pc or virt.',
    },
    rng_model: {
      title: 'Source of randomness',
      type: 'string',
      description: 'Device through which the guest gets random numbers from its host.',
      enum: ['virtio'],
    },
    qemu_guest_agent: {
      title: 'Guest agent',
      type: 'string',
      description: 'Whether the QEMU guest agent is installed, so that the host opens a channel to it.',
      enum: ['yes', 'no'],
      default: 'no',
    },
  },
}

const firmware: StarterNamespace = {
  namespace: 'Moraine::Firmware',
  display_name: 'Firmware and boot',
  description: 'How the image starts: by which firmware, and what it insists on.',
  resource_type_associations: imageAndVolume(),
  properties: {
    hw_firmware_type: {
      title: 'Firmware',
      type: 'string',
      description: 'A disk with an EFI system partition and no boot code in its first sector starts with uefi only.',
      enum: ['bios', 'uefi'],
    },
    os_secure_boot: {
      title: 'Secure Boot',
      type: 'string',
      description: 'Whether the boot loader is signed, and whether to start without the check.',
      enum: ['required', 'optional', 'disabled'],
    },
    hw_tpm_version: {
      title: 'TPM version',
      type: 'string',
      description: 'Version of the trusted platform module that the guest finds.',
      enum: ['1.2', '2.0'],
    },
    hw_tpm_model: {
      title: 'TPM model',
      type: 'string',
      description: 'Interface of the trusted platform module; tpm-crb is for version 2.0 alone.',
      enum: ['tpm-tis', 'tpm-crb'],
    },
    hw_boot_menu: {
      title: 'Boot menu',
      type: 'boolean',
      description: 'Whether the firmware waits for somebody to choose what to start.',
    },
  },
}

const processor: StarterNamespace = {
  namespace: 'Moraine::Processor',
  display_name: 'Processor and memory',
  description: 'How virtual processors and memory are laid out. A flavor may say the same with its own prefix.',
  resource_type_associations: [...imageAndVolume('hw_'), { name: flavor, prefix: 'hw:' }],
  objects: [
    {
      name: 'Topology',
      description: 'Sockets, cores and threads that the guest sees; licences are often counted by sockets.',
      properties: {
        cpu_sockets: {
          title: 'Sockets',
          type: 'integer',
          description: 'Number of processor sockets that are preferred.',
          minimum: 1,
        },
        cpu_cores: {
          title: 'Cores',
          type: 'integer',
          description: 'Number of cores in each socket that is preferred.',
          minimum: 1,
        },
        cpu_threads: {
          title: 'Threads',
          type: 'integer',
          description: 'Number of threads of each core that is preferred.',
          minimum: 1,
        },
      },
    },
    {
      name: 'Placement',
      description: 'How processors and memory of the guest are bound to those of its host.',
      required: ['cpu_policy'],
      properties: {
        cpu_policy: {
          title: 'Binding of processors',
          type: 'string',
          description: 'dedicated gives each virtual processor one of the host for itself.',
          enum: ['shared', 'dedicated', 'mixed'],
          default: 'shared',
        },
        mem_page_size: {
          title: 'Size of memory pages',
          type: 'string',
          description: 'small, large, any, or a size in KiB.',
        },
        numa_nodes: {
          title: 'NUMA nodes',
          type: 'integer',
          description: 'Number of memory nodes that the guest sees.',
          minimum: 1,
        },
      },
    },
  ],
}

const hypervisor: StarterNamespace = {
  namespace: 'Moraine::Hypervisor',
  display_name: 'Hypervisor',
  description: 'Which hypervisors the image can run under. A scheduler keeps it off all others.',
  resource_type_associations: imageAndVolume(),
  properties: {
    img_hv_type: {
      title: 'Hypervisor',
      type: 'string',
      description: 'The one kind of hypervisor that the image was made for.',
      enum: ['kvm', 'qemu', 'hyperv', 'vmware', 'xen', 'vz', 'lxc', 'ironic'],
    },
    vm_mode: {
      title: 'Mode',
      type: 'string',
      description: 'hvm is a whole machine, xen is the paravirtual interface of Xen, exe is a container.',
      enum: ['hvm', 'xen', 'uml', 'exe'],
    },
  },
}

const origin: StarterNamespace = {
  namespace: 'Moraine::Origin',
  display_name: 'Origin',
  description:
    'Where the image came from, for whoever wants to find it again or check it. Whoever brings an image in fills it in.',
  resource_type_associations: [{ name: image, prefix: 'origin_' }],
  objects: [
    {
      name: 'Source',
      description: 'The file that was brought in, as it was before anything was done to it.',
      required: ['url'],
      properties: {
        url: { title: 'Address', type: 'string', description: 'Where the file was fetched from.' },
        format: {
          title: 'Format',
          type: 'string',
          description: 'Format of the file before it was converted.',
          enum: ['raw', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx', 'ploop', 'dmg', 'ova', 'iso'],
        },
        digest: {
          title: 'Digest',
          type: 'string',
          description: 'Checksum of the file, with its algorithm in front: sha256:e3b0c442…',
          pattern: '^[a-z0-9]+:[0-9a-f]+$',
          maxLength: 255,
        },
      },
    },
    {
      name: 'Build',
      description: 'What made the image.',
      properties: {
        tool: { title: 'Tool', type: 'string', description: 'Program that built the image, with its version.' },
        date: {
          title: 'Date',
          type: 'string',
          description: 'Day of the build.',
          pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}$',
        },
      },
    },
  ],
}

/** In the order in which they are put into a new catalog. */
export const starterNamespaces: readonly StarterNamespace[] = [guest, devices, firmware, processor, hypervisor, origin]
