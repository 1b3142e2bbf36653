/** Containers: what holds images, or stands around them. */
export { type XzLibrary, xzStream } from '../codec/xz-library.ts'
export { gnuTarStream } from './tar/gnu-tar.ts'
export { detectWrapper, type WrapperName } from './wrapper/detect.ts'
export { type UnwrapOptions, unwrapSource } from './wrapper/open-wrapped.ts'
export { type WrappingFacts, wrappingOf } from './wrapper/wrapped-source.ts'
