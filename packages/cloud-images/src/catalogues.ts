/** The catalogues that are known without being told: where their publishers keep them, and how they are verified. */
import { MoraineError } from '@moraine/engine'
import type { Definition } from './definition.ts'

/** What all of them need from a hypervisor; arm64 has no firmware but UEFI. */
const virtio = {
  '*': { os_type: 'linux', hw_disk_bus: 'virtio', hw_vif_model: 'virtio', hw_rng_model: 'virtio' },
  arm64: { hw_firmware_type: 'uefi', hw_machine_type: 'virt' },
} as const

/** Sources: cloud-images.ubuntu.com and its simplestreams; cloud.debian.org/images/cloud; Fedora's `releases/N/Cloud`; Alpine's `vN/releases/cloud`; Rocky's `pub/rocky/N/images`. */
export const catalogues: readonly Definition[] = [
  {
    name: 'ubuntu',
    title: 'Ubuntu',
    base: 'https://cloud-images.ubuntu.com/',
    keyring: 'ubuntu',
    streams: {
      release: { layout: 'simplestreams', path: 'releases/' },
      daily: { layout: 'simplestreams', path: 'daily/' },
      minimal: { layout: 'simplestreams', path: 'minimal/releases/' },
      'minimal-daily': { layout: 'simplestreams', path: 'minimal/daily/' },
    },
    disks: {
      'disk1.img': { format: 'qcow2' },
      'uefi1.img': { format: 'qcow2', firmware: 'uefi' },
      'disk-kvm.img': { format: 'qcow2' },
      vmdk: { format: 'vmdk' },
      vhd: { format: 'vhd' },
    },
    staleDays: 60,
    properties: {
      ...virtio,
      '*': { ...virtio['*'], os_admin_user: 'ubuntu' },
    },
  },
  {
    name: 'debian',
    title: 'Debian',
    base: 'https://cloud.debian.org/images/cloud/',
    keyring: 'debian',
    streams: {
      release: {
        layout: 'checksums',
        serials: { folder: '{codename}/', pattern: '^(\\d{8}-\\d+)$' },
        folder: '{codename}/{serial}/',
        releases: [
          { version: '13', codename: 'trixie', title: '13', eol: '2028-08-09' },
          { version: '12', codename: 'bookworm', title: '12', eol: '2026-06-10' },
          { version: '11', codename: 'bullseye', title: '11', eol: '2024-08-14' },
        ],
        architectures: { amd64: 'amd64', arm64: 'arm64', ppc64el: 'ppc64el' },
        sums: { name: 'SHA512SUMS' },
        algorithm: 'sha512',
        signature: { form: 'beside', names: ['SHA512SUMS.sign', 'SHA512SUMS.asc', 'SHA512SUMS.gpg'] },
        file: '^debian-{version}-(?<kind>[a-z]+)-(?<arch>[a-z0-9]+)(?:-(?<serial>\\d{8}-\\d+))?\\.(?<extension>qcow2|raw|tar\\.xz)$',
      },
    },
    disks: {
      'genericcloud.qcow2': { format: 'qcow2' },
      'generic.qcow2': { format: 'qcow2' },
      'nocloud.qcow2': { format: 'qcow2' },
      'genericcloud.raw': { format: 'raw' },
      'generic.raw': { format: 'raw' },
      'nocloud.raw': { format: 'raw' },
    },
    staleDays: 120,
    properties: { ...virtio, '*': { ...virtio['*'], os_admin_user: 'debian' } },
  },
  {
    name: 'fedora',
    title: 'Fedora Cloud',
    base: 'https://download.fedoraproject.org/pub/fedora/linux/releases/',
    keyring: 'fedora',
    streams: {
      release: {
        layout: 'checksums',
        folder: '{version}/Cloud/{arch}/images/',
        releases: [{ version: '44' }, { version: '43' }, { version: '42' }, { version: '41' }],
        architectures: { amd64: 'x86_64', arm64: 'aarch64', ppc64el: 'ppc64le', s390x: 's390x' },
        sums: { pattern: '^Fedora-Cloud-.*-CHECKSUM$' },
        algorithm: 'sha256',
        signature: { form: 'inside' },
        // Fedora 40 and before had the processor in front of the version.
        file: '^Fedora-Cloud-Base-(?<kind>[A-Za-z-]+?)[.-](?:(?<arch>[a-z0-9_]+)-)?{version}-(?<serial>[0-9.]+?)(?:\\.[a-z0-9_]+)?\\.(?<extension>qcow2|raw\\.xz|vhdfixed\\.xz|tar\\.gz)$',
      },
    },
    disks: {
      'Generic.qcow2': { format: 'qcow2' },
      'UEFI-UKI.qcow2': { format: 'qcow2', firmware: 'uefi' },
    },
    staleDays: 400,
    properties: { ...virtio, '*': { ...virtio['*'], os_admin_user: 'fedora' } },
  },
  {
    name: 'alpine',
    title: 'Alpine Linux',
    base: 'https://dl-cdn.alpinelinux.org/alpine/',
    streams: {
      release: {
        layout: 'checksums',
        folder: 'v{version}/releases/cloud/',
        releases: [
          { version: '3.23', eol: '2027-11-01' },
          { version: '3.22', eol: '2027-05-01' },
          { version: '3.21', eol: '2026-11-01' },
          { version: '3.20', eol: '2026-04-01' },
        ],
        architectures: { amd64: 'x86_64', arm64: 'aarch64' },
        sums: { pattern: '^(?:nocloud|generic)_alpine-{version}\\..*-{arch}-.*\\.qcow2\\.sha512$' },
        algorithm: 'sha512',
        signature: { form: 'image', suffix: '.asc' },
        file: '^(?<kind>nocloud|generic)_alpine-(?<serial>{version}\\.[0-9]+)-(?<arch>x86_64|aarch64)-(?<firmware>bios|uefi)-(?<flavour>[a-z]+)-r[0-9]+\\.(?<extension>qcow2)$',
      },
    },
    disks: {
      'nocloud-bios-cloudinit.qcow2': { format: 'qcow2' },
      'nocloud-uefi-cloudinit.qcow2': { format: 'qcow2', firmware: 'uefi' },
      'generic-bios-cloudinit.qcow2': { format: 'qcow2' },
      'generic-uefi-cloudinit.qcow2': { format: 'qcow2', firmware: 'uefi' },
      'nocloud-bios-tiny.qcow2': { format: 'qcow2' },
      'nocloud-uefi-tiny.qcow2': { format: 'qcow2', firmware: 'uefi' },
      'generic-bios-tiny.qcow2': { format: 'qcow2' },
      'generic-uefi-tiny.qcow2': { format: 'qcow2', firmware: 'uefi' },
    },
    staleDays: 400,
    properties: { ...virtio, '*': { ...virtio['*'], os_admin_user: 'alpine' } },
  },
  {
    name: 'rocky',
    title: 'Rocky Linux',
    base: 'https://dl.rockylinux.org/pub/rocky/',
    keyring: 'rocky',
    streams: {
      release: {
        layout: 'checksums',
        folder: '{version}/images/{arch}/',
        releases: [
          { version: '10', eol: '2035-05-31' },
          { version: '9', eol: '2032-05-31' },
          { version: '8', eol: '2029-05-31' },
        ],
        architectures: { amd64: 'x86_64', arm64: 'aarch64', ppc64el: 'ppc64le', s390x: 's390x' },
        sums: { name: 'CHECKSUM' },
        algorithm: 'sha256',
        signature: { form: 'beside', names: ['{sums}.asc', '{sums}.sig'] },
        file: '^Rocky-{version}-(?<kind>[A-Za-z]+(?:-[A-Za-z]+)*)-(?<serial>[0-9.]+-[0-9.]+)\\.(?<arch>[a-z0-9_]+)\\.(?<extension>qcow2|raw|vmdk|box)$',
      },
    },
    disks: {
      'GenericCloud-Base.qcow2': { format: 'qcow2' },
      'GenericCloud-LVM.qcow2': { format: 'qcow2' },
      'GenericCloud.qcow2': { format: 'qcow2' },
      'EC2-Base.qcow2': { format: 'qcow2' },
    },
    staleDays: 400,
    properties: { ...virtio, '*': { ...virtio['*'], os_admin_user: 'rocky' } },
  },
]

/** The catalogue of a name.
 *  @throws MoraineError `missing` */
export function findCatalogue(name: string): Definition {
  const found = catalogues.find((one) => one.name === name)
  if (found !== undefined) return found
  const known = catalogues.map((one) => one.name).join(', ')
  throw new MoraineError('missing', `there is no catalogue '${name}'`, { hint: `There are: ${known}.` })
}

const keyrings = {
  ubuntu: () => import('./keys/ubuntu.ts'),
  debian: () => import('./keys/debian.ts'),
  fedora: () => import('./keys/fedora.ts'),
  rocky: () => import('./keys/rocky.ts'),
} as const

/** The keys that are shipped for a catalogue, armoured; undefined where none could be had. */
export async function shippedKeyring({ keyring }: Pick<Definition, 'keyring'>): Promise<string | undefined> {
  return keyring === undefined ? undefined : (await keyrings[keyring]()).keyring
}
