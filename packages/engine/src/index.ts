/** The public face of the engine: what Node and browsers share. */

export { portableCodecs } from './codec/portable.ts'
export * from './core/index.ts'
export { allFormats } from './format/all.ts'
export * from './format/format.ts'
export * from './format/open-disk.ts'
export * from './format/options.ts'
export { qcow2 } from './format/qcow2/index.ts'
export { raw } from './format/raw/index.ts'
export { vdi } from './format/vdi/index.ts'
export { vmdk } from './format/vmdk/index.ts'
export * from './operation/index.ts'
export * from './source/index.ts'
