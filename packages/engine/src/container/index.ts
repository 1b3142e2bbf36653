/** Containers: what holds images, or stands around them. */

export {
  attributeOf,
  childOf,
  childrenOf,
  defaultXmlLimits,
  readXml,
  textOf,
  type XmlAttribute,
  type XmlElement,
  type XmlEvents,
  type XmlLimits,
  type XmlParser,
} from '../codec/xml/document.ts'
export { type XmlLibrary, xmlParser } from '../codec/xml/library.ts'
export { type XzLibrary, xzStream } from '../codec/xz-library.ts'
export type { BundleCrypto, RunningCipher, RunningDigest } from '../crypt/bundle-crypto.ts'
export { allContainers } from './all.ts'
export * from './bundle/index.ts'
export {
  type Container,
  type ContainerContext,
  type ContainerFormat,
  type ContainerMember,
  type ContainerOptions,
  chooseMember,
  findMember,
  type MemberKind,
  openContainer,
  plainMemberName,
  probeContainer,
} from './container.ts'
export { type MemberFacts, memberGate, memberOf, openMember } from './member-source.ts'
export type { PackageFinding, PackageSeverity } from './ovf/check/finding.ts'
export type { ImageLook, PackageCheck, PackageCheckOptions } from './ovf/check/index.ts'
export type {
  OperatingSystem,
  OvfProduct,
  OvfProperty,
  StartupItem,
  UnknownSection,
  VirtualSystem,
} from './ovf/content.ts'
export type { MachineChanges } from './ovf/edit/machine.ts'
export type { RewriteOptions, RewrittenPapers } from './ovf/edit/rewrite.ts'
export type { SoftwareChanges } from './ovf/edit/software.ts'
export type { DeploymentOption, Envelope, OvfNetwork } from './ovf/envelope.ts'
export type { PackageFiles } from './ovf/files.ts'
export type { HardwareItem, HardwareSection, ResourceKind } from './ovf/hardware.ts'
export {
  changeMachine,
  checkPackage,
  isOvfPackage,
  ova,
  ovf,
  rewriteOva,
  rewritePapers,
  streamOva,
  writeOva,
  writeOvf,
} from './ovf/index.ts'
export type { ControllerKind, Machine, MachineController, MachineDrive, MachineNic } from './ovf/machine.ts'
export type { Manifest, ManifestEntry, ManifestSignature } from './ovf/manifest.ts'
export type { OvfPackage } from './ovf/open-package.ts'
export type { OvfDisk, OvfFile } from './ovf/references.ts'
export type { NewAppliance, NewApplianceDisk, PackageSink } from './ovf/write/appliance.ts'
export type { NewMachine, NewNic } from './ovf/write/machine-spec.ts'
export { type GuestSystem, guestSystems } from './ovf/write/operating-systems.ts'
export { type NewProduct, type NewProperty, propertyTypes } from './ovf/write/product.ts'
export {
  type ApplianceTarget,
  applianceTargets,
  type ControllerName,
  controllers,
  type TargetController,
} from './ovf/write/targets.ts'
export type { OvfVersion } from './ovf/xml.ts'
export { gnuTarStream } from './tar/gnu-tar.ts'
export { tar } from './tar/index.ts'
export { detectWrapper, type WrapperName } from './wrapper/detect.ts'
export { type UnwrapOptions, unwrapSource } from './wrapper/open-wrapped.ts'
export { type WrappingFacts, wrappingOf } from './wrapper/wrapped-source.ts'
