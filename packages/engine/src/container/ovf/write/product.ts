/** What a machine says of the software in it: product, properties, licences, a note. Children stand in the order of the schema. Facts: DSP0243 1.1, sections 9.5 to 9.8; DSP8023 1.1. */
import { escapeXml } from '../../../codec/xml/escape.ts'
import { MoraineError } from '../../../core/index.ts'

/** What software it is. */
export interface NewProduct {
  product?: string | undefined
  vendor?: string | undefined
  version?: string | undefined
}

/** Types of properties, by the standard; a password is a string that is not shown. */
export const propertyTypes = [
  ...['string', 'password', 'boolean', 'uint8', 'sint8', 'uint16', 'sint16', 'uint32', 'sint32', 'uint64', 'sint64'],
  ...['real32', 'real64'],
] as const

/** A value that whoever deploys may set. */
export interface NewProperty {
  key: string
  /** One of `propertyTypes`; `string` without one. */
  type?: string | undefined
  value?: string | undefined
}

/** Where elements go and how they are written: what stands before their names, and before each line. */
export interface Placing {
  /** With its colon, or empty. */
  prefix: string
  indent: string
  /** The namespace of OVF, where `ovf:` is not known to be bound to it. */
  bind?: string | undefined
}

/** The children of a product section in their order. */
export const productOrder = ['Info', 'Product', 'Vendor', 'Version', 'FullVersion', 'ProductUrl', 'VendorUrl'] as const

const integerType = /^([us])int(8|16|32|64)$/

/** Whether a text is a value of a type; any is, of a type that is not known. */
export function isPropertyValue(type: string, text: string): boolean {
  if (type === 'boolean') return /^(?:true|false)$/i.test(text)
  if (/^real(?:32|64)$/.test(type)) return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)
  const [, sign, bits] = integerType.exec(type) ?? []
  if (bits === undefined) return true
  if (!/^-?\d{1,20}$/.test(text)) return false
  const value = BigInt(text)
  const range = 1n << BigInt(bits)
  return sign === 'u' ? value >= 0n && value < range : value >= -range / 2n && value < range / 2n
}

/** Refuses a property that no reader would take.
 *  @throws MoraineError `invalid` */
export function checkProperty({ key, type = 'string', value }: NewProperty): void {
  const refuse = (field: string, text: string, rule: string) =>
    new MoraineError('invalid', 'the property cannot be so', { field, value: text.slice(0, 100), rule })
  if (!/^[A-Za-z_][\w.-]{0,199}$/.test(key))
    throw refuse('key', key, 'a letter, then letters, digits, dots, dashes and underscores')
  if (!(propertyTypes as readonly string[]).includes(type))
    throw refuse('type', type, `one of ${propertyTypes.join(', ')}`)
  if (value !== undefined && !isPropertyValue(type, value)) throw refuse(key, value, `a value of the type ${type}`)
}

/** Refuses properties of which one comes twice, or that no reader would take.
 *  @throws MoraineError `invalid` */
export function checkProperties(properties: readonly NewProperty[]): void {
  const seen = new Set<string>()
  for (const property of properties) {
    checkProperty(property)
    if (!seen.has(property.key)) seen.add(property.key)
    else
      throw new MoraineError('invalid', 'a property comes twice', {
        field: 'key',
        value: property.key,
        rule: 'each key once',
      })
  }
}

/** A text with its line breaks.
 *  @throws MoraineError `invalid` for characters that XML cannot have. */
export function paragraphs(text: string): string {
  return escapeXml(text.replace(/\r\n?/g, '\n')).replaceAll('&#10;', '\n').replaceAll('&#9;', '\t')
}

/** One property, which was checked. */
export function propertyXml(property: NewProperty, { prefix, indent, bind }: Placing): string {
  const { key, type = 'string', value } = property
  const isPassword = type === 'password'
  const bound = bind === undefined ? '' : ` xmlns:ovf="${bind}"`
  const said = value === undefined ? '' : ` ovf:value="${escapeXml(value)}"`
  const more = isPassword ? ' ovf:password="true"' : ''
  return `${indent}<${prefix}Property${bound} ovf:key="${key}" ovf:type="${isPassword ? 'string' : type}" ovf:userConfigurable="true"${more}${said}/>`
}

/** The section of a product with its properties.
 *  @throws MoraineError `invalid` */
export function productXml(facts: NewProduct, properties: readonly NewProperty[], placing: Placing): string {
  const { prefix, indent } = placing
  const named = [
    ['Product', facts.product],
    ['Vendor', facts.vendor],
    ['Version', facts.version],
  ].flatMap(([name, text]) =>
    text === undefined ? [] : [`${indent}  <${prefix}${name}>${escapeXml(text)}</${prefix}${name}>`],
  )
  return [
    `${indent}<${prefix}ProductSection>`,
    `${indent}  <${prefix}Info>What is installed</${prefix}Info>`,
    ...named,
    ...properties.map((property) => propertyXml(property, { ...placing, indent: `${indent}  ` })),
    `${indent}</${prefix}ProductSection>`,
  ].join('\n')
}

/** The section of one licence.
 *  @throws MoraineError `invalid` */
export function eulaXml(licence: string, { prefix, indent }: Placing): string {
  return [
    `${indent}<${prefix}EulaSection>`,
    `${indent}  <${prefix}Info>A licence to agree to</${prefix}Info>`,
    `${indent}  <${prefix}License>${paragraphs(licence)}</${prefix}License>`,
    `${indent}</${prefix}EulaSection>`,
  ].join('\n')
}

/** The section of a note.
 *  @throws MoraineError `invalid` */
export function annotationXml(note: string, { prefix, indent }: Placing): string {
  return [
    `${indent}<${prefix}AnnotationSection>`,
    `${indent}  <${prefix}Info>A note</${prefix}Info>`,
    `${indent}  <${prefix}Annotation>${paragraphs(note)}</${prefix}Annotation>`,
    `${indent}</${prefix}AnnotationSection>`,
  ].join('\n')
}

/** How properties reach the guest: always by VMware's guest variables, and on a disc where there is a drive for it. */
export function transportOf(hasDrive: boolean): string {
  return hasDrive ? 'com.vmware.guestInfo iso' : 'com.vmware.guestInfo'
}
