/** The kinds of images that are stormed: every writable format, with what makes its writing another. */
import type { StormKind } from '../support/storm.ts'

const mib = 1 << 20
const qcow2 = { format: 'qcow2', qemu: 'qcow2', afterFaults: /^Leaked cluster|refcount=\d+ reference=0/ } as const
const qed = { format: 'qed', qemu: 'qed', harmless: /not in use/ } as const
const vhd = { format: 'vhd', qemu: 'vpc' } as const
const vhdx = { format: 'vhdx', qemu: 'vhdx' } as const
const vmdk = { format: 'vmdk', qemu: 'vmdk' } as const
const vdi = { format: 'vdi', qemu: 'vdi' } as const
const parallels = { format: 'parallels', qemu: 'parallels' } as const

export const stormKinds: readonly StormKind[] = [
  { ...qcow2, name: 'qcow2', size: 5_500_416, grows: true, snapshots: true },
  { ...qcow2, name: 'qcow2 512', options: 'cluster_size=512', size: 3 * mib, grows: true, snapshots: true },
  { ...qcow2, name: 'qcow2 4k lazy', options: 'cluster_size=4k,lazy_refcounts=on', size: 3 * mib, snapshots: true },
  {
    ...qcow2,
    name: 'qcow2 extended',
    options: 'cluster_size=16k,extended_l2=on',
    size: 3 * mib,
    grows: true,
    snapshots: true,
  },
  {
    ...qcow2,
    name: 'qcow2 extended over raw',
    options: 'cluster_size=64k,extended_l2=on',
    size: 3 * mib,
    parent: { format: 'raw' },
    snapshots: true,
  },
  {
    ...qcow2,
    name: 'qcow2 512 over qcow2',
    options: 'cluster_size=512',
    size: 2 * mib,
    parent: { format: 'qcow2', options: 'cluster_size=512', size: mib + 512 },
    snapshots: true,
  },
  {
    ...qcow2,
    name: 'qcow2 0.10 over raw',
    options: 'compat=0.10,cluster_size=4k',
    size: 2 * mib,
    parent: { format: 'raw' },
  },
  { ...qcow2, name: 'qcow2 data file', options: 'data_file=data.raw,cluster_size=4k', size: 3 * mib },
  { ...qcow2, name: 'qcow2 raw data file', options: 'data_file=data.raw,data_file_raw=on', size: 3 * mib },
  {
    ...qcow2,
    name: 'qcow2 laid out',
    options: 'preallocation=metadata,cluster_size=4k',
    size: 3 * mib,
    snapshots: true,
  },
  { ...qcow2, name: 'qcow2 wide counts', options: 'refcount_bits=64,cluster_size=512', size: 2 * mib, snapshots: true },
  {
    ...qcow2,
    name: 'qcow2 luks',
    options: 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=4k',
    size: 2 * mib,
    encrypted: true,
    snapshots: true,
  },
  { name: 'luks', format: 'luks', options: 'key-secret=s,iter-time=10', size: 2 * mib, encrypted: true },
  {
    name: 'qcow',
    format: 'qcow',
    qemu: 'qcow',
    size: 200 * mib,
    spread: { count: 90, stride: 2 * mib, length: 65_536 },
    grows: true,
  },
  { name: 'qcow over raw', format: 'qcow', qemu: 'qcow', size: 3 * mib, parent: { format: 'raw' } },
  {
    name: 'qcow aes',
    format: 'qcow',
    options: 'encrypt.format=aes,encrypt.key-secret=s',
    size: 2 * mib,
    encrypted: true,
  },
  // QEMU makes images with tables of one cluster, and does not open them.
  {
    ...qed,
    name: 'qed',
    options: 'cluster_size=4k,table_size=2',
    size: 400 * mib,
    spread: { count: 90, stride: 4 * mib, length: 65_536 },
    grows: true,
  },
  {
    ...qed,
    name: 'qed over raw',
    options: 'cluster_size=64k,table_size=2',
    size: 3 * mib,
    parent: { format: 'raw', size: 2 * mib + 512 },
    grows: true,
  },
  { ...vmdk, name: 'vmdk', size: 80 * 32 * mib, spread: { count: 80, stride: 32 * mib, length: 262_144 } },
  { ...vmdk, name: 'vmdk zeroed', options: 'zeroed_grain=on', size: 3 * mib, grows: true },
  { ...vmdk, name: 'vmdk flat', options: 'subformat=monolithicFlat', size: 3 * mib, grows: true },
  {
    ...vmdk,
    name: 'vmdk 2gb',
    options: 'subformat=twoGbMaxExtentSparse',
    size: 4096 * mib,
    spread: { count: 40, stride: 100 * mib + 512, length: 65_536 },
  },
  { ...vmdk, name: 'vmdk delta', size: 3 * mib, parent: { format: 'vmdk' } },
  { ...vmdk, name: 'vmdk zeroed delta', options: 'zeroed_grain=on', size: 3 * mib, parent: { format: 'vmdk' } },
  {
    ...vhd,
    name: 'vhd',
    options: 'force_size=on',
    size: 20 * 32_768 * mib,
    spread: { count: 20, stride: 32_768 * mib, length: 262_144 },
    grows: true,
  },
  { ...vhd, name: 'vhd fixed', options: 'subformat=fixed,force_size=on', size: 3 * mib, grows: true },
  {
    name: 'vhd over vhd',
    format: 'vhd',
    options: 'force_size=on',
    size: 5 * mib,
    parent: { format: 'vhd', options: 'force_size=on' },
  },
  {
    ...vhdx,
    name: 'vhdx',
    options: 'block_size=1M',
    size: 20 * 512 * mib,
    spread: { count: 20, stride: 512 * mib, length: 262_144 },
    grows: true,
  },
  { ...vhdx, name: 'vhdx fixed', options: 'subformat=fixed,block_size=1M', size: 4 * mib, grows: true },
  {
    name: 'vhdx over vhdx',
    format: 'vhdx',
    options: 'block_size=1M',
    size: 4 * mib,
    parent: { format: 'vhdx', options: 'block_size=1M' },
  },
  {
    ...vdi,
    name: 'vdi',
    size: 20 * 16_384 * mib,
    spread: { count: 20, stride: 16_384 * mib, length: 262_144 },
    grows: true,
  },
  { ...vdi, name: 'vdi static', options: 'static=on', size: 3 * mib },
  { name: 'vdi over vdi', format: 'vdi', size: 4 * mib, parent: { format: 'vdi', size: 3 * mib } },
  {
    ...parallels,
    name: 'parallels',
    options: 'cluster_size=64k',
    size: 20 * 1024 * mib,
    spread: { count: 20, stride: 1024 * mib, length: 131_072 },
    grows: true,
  },
  { ...parallels, name: 'parallels 31744', options: 'cluster_size=31744', size: 3 * mib, grows: true },
  { name: 'raw', format: 'raw', qemu: 'raw', size: 3 * mib, grows: true },
]
