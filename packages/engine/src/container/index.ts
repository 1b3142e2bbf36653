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
export { allContainers } from './all.ts'
export {
  type Container,
  type ContainerContext,
  type ContainerDescription,
  type ContainerFact,
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
export { ova, ovf } from './ovf/index.ts'
export { gnuTarStream } from './tar/gnu-tar.ts'
export { tar } from './tar/index.ts'
export { detectWrapper, type WrapperName } from './wrapper/detect.ts'
export { type UnwrapOptions, unwrapSource } from './wrapper/open-wrapped.ts'
export { type WrappingFacts, wrappingOf } from './wrapper/wrapped-source.ts'
