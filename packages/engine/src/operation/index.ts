/** What is done with disks as a whole. */
export * from './check.ts'
export * from './compare.ts'
export * from './convert.ts'
export * from './create.ts'
export type { Loss } from './losses.ts'
export * from './map.ts'
export * from './measure.ts'
