/** FAT: the file system of small disks, seeds and EFI. */
export type { FatBits } from './new-layout.ts'
export { type FatVolumeOptions, planFatVolume } from './new-volume.ts'
