/** Amazon's bundles: images in encrypted parts beside a signed manifest. */
export { type BundleRequest, bundleImage, bundlePartBytes, type NewBundleFile } from './bundle.ts'
export {
  type BundleManifest,
  type BundlePart,
  type BundleType,
  readManifest,
  type SealedText,
  type SignedManifest,
} from './manifest.ts'
export { type UnbundleRequest, unbundleImage, verifyManifest } from './unbundle.ts'
