/** The public face of the engine: what Node and browsers share. */

export * from './core/index.ts'
export * from './format/format.ts'
export * from './format/open-disk.ts'
export * from './format/options.ts'
export { raw } from './format/raw/index.ts'
