/** ISO 9660: the file systems of optical discs. */
export type { Descriptors as IsoDescriptors, VolumeDescriptor as IsoVolumeDescriptor } from './descriptors.ts'
export type { IsoBootCatalog, IsoBootImage } from './el-torito.ts'
export type { IsoEntry, IsoEntryKind, IsoNames } from './entry.ts'
export { IsoFileSystem, type IsoOptions, openIsoFileSystem } from './file-system.ts'
export type { PathTableReport as IsoPathTableReport } from './path-tables.ts'
export type { IsoSystemArea } from './system-area.ts'
