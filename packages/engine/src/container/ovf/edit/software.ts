/** Changes what a machine says of the software in it: product, properties, licence, note. Sections that are not there are made, behind the others. */
import { childOf, childrenOf, type XmlElement } from '../../../codec/xml/document.ts'
import { escapeXml } from '../../../codec/xml/escape.ts'
import {
  annotationXml,
  checkProperties,
  eulaXml,
  type NewProduct,
  type NewProperty,
  type Placing,
  paragraphs,
  productOrder,
  productXml,
  propertyXml,
  transportOf,
} from '../write/product.ts'
import { nameOf, ovfAttribute } from '../xml.ts'
import type { TextEdits } from './text-edits.ts'

/** What shall be different. */
export interface SoftwareChanges {
  product?: NewProduct | undefined
  /** Values for properties that are there, or new ones. */
  properties?: readonly NewProperty[] | undefined
  /** The one licence, in place of those that are there. */
  eula?: string | undefined
  annotation?: string | undefined
}

/** Where the changes are made. */
interface Place {
  edits: TextEdits
  root: XmlElement
  system: XmlElement
  hardware: XmlElement
}

/** Makes the changes.
 *  @throws MoraineError `invalid` for texts that XML cannot have and values that no property can. */
export function changeSoftware(
  place: Place,
  { product = {}, properties = [], eula, annotation }: SoftwareChanges,
): void {
  checkProperties(properties.map(({ key, value }) => ({ key, value })))
  const facts = Object.entries(product).filter((fact): fact is [string, string] => fact[1] !== undefined)
  const sections = (name: string) => place.system.children.filter((section) => nameOf(section) === name)
  const found = sections('ProductSection')
  const added: string[] = []
  const [first] = found
  if (facts.length > 0 || properties.length > 0) {
    // What a value may be depends on the type, which the descriptor says of those that it has.
    const missing = properties.filter((property) => !setProperty(place, found, property))
    checkProperties(missing)
    if (first === undefined) added.push(productXml(product, missing, placing(place, place.system)))
    else {
      for (const [name, text] of facts) setFact(place.edits, first, `${name[0]?.toUpperCase()}${name.slice(1)}`, text)
      for (const property of missing) addProperty(place, first, property)
    }
    if (properties.length > 0) setTransport(place)
  }
  if (eula !== undefined) {
    const [old, ...more] = sections('EulaSection')
    if (old === undefined) added.push(eulaXml(eula, placing(place, place.system)))
    else setSpoken(place.edits, old, 'License', eula)
    for (const other of more) place.edits.remove(other)
  }
  if (annotation !== undefined) {
    const [old] = sections('AnnotationSection')
    if (old === undefined) added.push(annotationXml(annotation, placing(place, place.system)))
    else setSpoken(place.edits, old, 'Annotation', annotation)
  }
  const last = place.system.children.at(-1)
  if (last !== undefined && added.length > 0) place.edits.insert(last.end, `\n${added.join('\n')}`)
}

/** How what stands in a parent is written. The namespace of attributes is bound once more, as nobody knows by which prefix it is. */
function placing({ edits, root }: Place, parent: XmlElement): Placing {
  const [like] = parent.children
  const prefix = (like ?? parent).prefix
  const indent = like === undefined ? '' : edits.indentOf(like).slice(1)
  return { prefix: prefix === '' ? '' : `${prefix}:`, indent, bind: root.uri }
}

/** Gives a property its value; false where there is none of this key. */
function setProperty({ edits }: Place, products: readonly XmlElement[], property: NewProperty): boolean {
  const all = products.flatMap((section) =>
    childrenOf(section, 'Property').map((element) => {
      const key = ovfAttribute(element, 'key') ?? ''
      const parts = [ovfAttribute(section, 'class'), key, ovfAttribute(section, 'instance')]
      return { element, key, id: parts.filter((part) => part !== undefined && part !== '').join('.') }
    }),
  )
  const found = all.find(({ id }) => id === property.key) ?? all.find(({ key }) => key === property.key)
  if (found === undefined) return false
  const { element, key } = found
  const type = property.type ?? ovfAttribute(element, 'type') ?? 'string'
  checkProperties([{ key, type, value: property.value }])
  edits.setAttribute(element, `${edits.prefixOf(element, 'key')}value`, property.value ?? '')
  return true
}

function addProperty(place: Place, section: XmlElement, property: NewProperty): void {
  const after = section.children.at(-1)
  const xml = propertyXml(property, placing(place, section))
  if (after !== undefined) place.edits.insert(after.end, `\n${xml}`)
}

/** A fact of a product, where the schema has it. */
function setFact(edits: TextEdits, section: XmlElement, name: string, text: string): void {
  if (childOf(section, name) !== undefined) {
    setSpoken(edits, section, name, text)
    return
  }
  const order: readonly string[] = productOrder
  const after = section.children.findLast(({ local }) => order.slice(0, order.indexOf(name)).includes(local))
  const like = after ?? section.children[0]
  if (like === undefined) return
  const tag = like.prefix === '' ? name : `${like.prefix}:${name}`
  const element = `<${tag}>${escapeXml(text)}</${tag}>`
  if (after !== undefined) edits.insert(after.end, `${edits.indentOf(after)}${element}`)
  else edits.insert(like.start, `${element}${edits.indentOf(like)}`)
}

/** A text that may stand elsewhere, by its `msgid`: it stands here then. */
function setSpoken(edits: TextEdits, section: XmlElement, local: string, text: string): void {
  const child = childOf(section, local)
  const [like] = section.children
  const prefix = (child ?? like ?? section).prefix
  const tag = prefix === '' ? local : `${prefix}:${local}`
  const element = `<${tag}>${paragraphs(text)}</${tag}>`
  if (child !== undefined) edits.replaceElement(child, element)
  else if (like !== undefined) edits.insert(like.end, `${edits.indentOf(like)}${element}`)
}

/** Properties reach the guest where the hardware says how. */
function setTransport({ edits, system, hardware, root }: Place): void {
  if (ovfAttribute(hardware, 'transport') !== undefined) return
  const drive = hardware.children.some((item) => /^1[56]$/.test(childOf(item, 'ResourceType')?.text.trim() ?? ''))
  const prefix = edits.prefixOf(system, 'id')
  const bound = prefix === '' ? `xmlns:ovf="${root.uri}" ovf:` : prefix
  edits.setAttribute(hardware, `${bound}transport`, transportOf(drive))
}
