/** What guests put on disks: file systems. */
export * from './iso9660/index.ts'
