/** What guests find on their disks: partitions, file systems, kernels, ramdisks. */
export type { GuestContent, GuestKind } from './content.ts'
export { bootKindOf, type DescribeOptions, describeGuest, type GuestDescription, guestData } from './describe.ts'
export * from './fat/index.ts'
export * from './iso9660/index.ts'
export type { NewEntry } from './new-tree.ts'
export { partitionedDisk } from './partition/container.ts'
export type { Partition, PartitionTable } from './partition/table.ts'
export { describeRamdisk, type RamdiskOptions } from './ramdisk/ramdisk.ts'
