/** Catalogues of cloud images: which images there are, whether their publisher vouches for them, and their bytes. */

export { catalogues, findCatalogue } from './catalogues.ts'
export {
  type Architecture,
  architectureOf,
  type ChecksumsLayout,
  type CloudImage,
  type Definition,
  glanceArchitecture,
  type Release,
  type SimplestreamsLayout,
} from './definition.ts'
export { ChangedFile, type Download, downloadBytes, fileBytes } from './download.ts'
export { type Answer, faultText, type Get, type Mirror, type Patience } from './mirror.ts'
export { type OpenCatalogue, openCatalogue } from './open.ts'
export type { Reading } from './read.ts'
export { type Seen, seenIn } from './seen.ts'
export {
  type Builds,
  compareSerials,
  compareVersions,
  findImage,
  listImages,
  type Query,
  selectImages,
} from './select.ts'
export { type Keyring, type Signed, verifyBeside } from './signature.ts'
