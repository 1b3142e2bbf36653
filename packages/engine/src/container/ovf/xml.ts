/** Words of descriptors as they are found in the wild: attributes without their prefix, prefixes that nobody bound, sections by type (OVF 0.9). */
import { unboundNamespace, type XmlElement } from '../../codec/xml/document.ts'

/** Namespaces of OVF: 0.9 is VMware's, before the DMTF had it. */
export const ovfNamespaces = {
  '0.9': 'http://www.vmware.com/schema/ovf/1/envelope',
  '1.0': 'http://schemas.dmtf.org/ovf/envelope/1',
  '2.0': 'http://schemas.dmtf.org/ovf/envelope/2',
} as const

/** The generation of the standard. */
export type OvfVersion = keyof typeof ovfNamespaces

/** VMware's own elements and attributes. */
export const vmwareNamespace = 'http://www.vmware.com/schema/ovf'

const known = new Set<string>(Object.values(ovfNamespaces))

/** The generation that a namespace means; undefined for one of somebody else. */
export function versionOf(uri: string): OvfVersion | undefined {
  for (const [version, namespace] of Object.entries(ovfNamespaces)) if (namespace === uri) return version as OvfVersion
  return undefined
}

/** An attribute of OVF, with its prefix or without. */
export function ovfAttribute(element: XmlElement, local: string): string | undefined {
  let loose: string | undefined
  for (const { uri, local: own, value } of element.attributes) {
    if (own !== local) continue
    if (known.has(uri)) return value
    if (uri === '' || uri.startsWith(unboundNamespace)) loose ??= value
  }
  return loose
}

/** An attribute of VMware's. */
export function vmwareAttribute(element: XmlElement, local: string): string | undefined {
  return element.attributes.find((attribute) => attribute.local === local && attribute.uri === vmwareNamespace)?.value
}

/** The name of a section or of content: its own, or in OVF 0.9 that of its type without `_Type`. */
export function nameOf(element: XmlElement): string {
  if (element.local !== 'Section' && element.local !== 'Content') return element.local
  const type = element.attributes.find(({ local }) => local === 'type')?.value ?? ''
  return type.slice(type.indexOf(':') + 1).replace(/_Type$/, '') || element.local
}

/** Whether a section or item must be understood: so it is unless it says otherwise. */
export function isRequired(element: XmlElement): boolean {
  return !/^\s*(?:false|0)\s*$/i.test(ovfAttribute(element, 'required') ?? '')
}
