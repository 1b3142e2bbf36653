/** XML as a tree of bounded size. The parser is handed in, as codecs are; what a stranger's document may cost is decided here, whatever the parser would take. */
import { MoraineError } from '../../core/index.ts'

/** One attribute; `uri` is the namespace of its prefix, '' where it has none. */
export interface XmlAttribute {
  readonly uri: string
  readonly local: string
  readonly value: string
}

/** One element with all that is in it. */
export interface XmlElement {
  /** The namespace, '' where it is in none. */
  readonly uri: string
  readonly local: string
  readonly attributes: readonly XmlAttribute[]
  readonly children: readonly XmlElement[]
  /** The text that stands directly in it, as it is: blanks are not taken off. */
  readonly text: string
  /** Where it begins, from 1. */
  readonly line: number
  /** The prefix it is written with, '' without one. */
  readonly prefix: string
  /** Where it stands in the text (UTF-16 units): from its `<`, behind the `>` of its opening tag, and behind its end. */
  readonly start: number
  readonly inner: number
  readonly end: number
}

/** What stands before the prefix as the namespace of one that is bound to none, where that is taken. */
export const unboundNamespace = 'unbound:'

/** An element as it is met. */
export type XmlOpening = Pick<XmlElement, 'uri' | 'local' | 'prefix' | 'attributes' | 'line' | 'start' | 'inner'>

/** What a parser tells while it reads. What throws here ends the reading. */
export interface XmlEvents {
  /** A document type declaration was met. Nothing of it may be expanded or loaded. */
  doctype(line: number): void
  open(element: XmlOpening): void
  text(text: string): void
  /** @param end behind the element */
  close(end: number): void
}

/** A parser that checks well-formedness and namespaces, expands no entity but the five that XML has itself, and opens nothing.
 *  @throws MoraineError `invalid` with the place for a document that is not well-formed. */
export type XmlParser = (text: string, events: XmlEvents, leniency?: XmlLeniency) => Promise<void>

/** What is taken though it is wrong. */
export interface XmlLeniency {
  /** Prefixes that are bound to no namespace; theirs is `unboundNamespace` with the prefix behind it. */
  unboundPrefixes?: boolean | undefined
}

/** What a document may cost. */
export interface XmlLimits {
  /** Bytes of the document. */
  bytes: number
  /** Elements within one another. */
  depth: number
  elements: number
  /** Attributes in all. */
  attributes: number
}

/** Enough for descriptors of appliances: the largest known has 1.7 MB and 23,000 elements. */
export const defaultXmlLimits: XmlLimits = {
  bytes: 16 * 1024 * 1024,
  depth: 64,
  elements: 250_000,
  attributes: 500_000,
}

type OpenElement = { -readonly [Key in keyof XmlElement]: XmlElement[Key] } & { children: XmlElement[] }

/** Reads a document: UTF-8, or UTF-16 with a byte order mark.
 *  @param path for messages
 *  @throws MoraineError `invalid` for what is not well-formed or has a document type declaration; `limit`; `unsupported` for another encoding. */
export async function readXml(
  bytes: Uint8Array,
  parser: XmlParser,
  path: string,
  limits: Partial<XmlLimits> & XmlLeniency = {},
): Promise<XmlElement> {
  const most = { ...defaultXmlLimits, ...limits }
  const bound = (field: keyof XmlLimits, value: number, line?: number): void => {
    if (value <= most[field]) return
    const where = line === undefined ? '' : ` at line ${line}`
    throw new MoraineError('limit', `the XML document is too large${where}`, {
      path,
      field,
      value,
      rule: `at most ${most[field]}`,
    })
  }
  bound('bytes', bytes.length)
  const text = decodeXml(bytes, path)
  const open: OpenElement[] = []
  let root: OpenElement | undefined
  let elements = 0
  let attributeCount = 0
  const events: XmlEvents = {
    doctype(line) {
      throw new MoraineError(
        'invalid',
        `the XML document has a document type declaration at line ${line}, which could declare entities`,
        {
          path,
          field: 'DOCTYPE',
          rule: 'none',
        },
      )
    },
    open(met) {
      const { attributes, line } = met
      elements++
      attributeCount += attributes.length
      bound('elements', elements, line)
      bound('attributes', attributeCount, line)
      bound('depth', open.length + 1, line)
      const element: OpenElement = { ...met, children: [], text: '', end: met.inner }
      const parent = open.at(-1)
      if (parent === undefined) root = element
      else parent.children.push(element)
      open.push(element)
    },
    text(more) {
      const element = open.at(-1)
      if (element !== undefined) element.text += more
    },
    close(end) {
      const element = open.pop()
      if (element !== undefined) element.end = end
    },
  }
  try {
    await parser(text, events, limits)
  } catch (error) {
    if (!(error instanceof MoraineError) || error.path !== undefined) throw error
    throw new MoraineError(error.kind, error.reason, { ...error, path, cause: error })
  }
  if (root === undefined) throw new MoraineError('invalid', 'the XML document has no element', { path })
  return root
}

/** The text of a document, without a byte order mark.
 *  @throws MoraineError `invalid` for bytes that are not what its encoding says; `unsupported` for an encoding that is not known. */
export function decodeXml(bytes: Uint8Array, path: string): string {
  const [first, second] = bytes
  const wide =
    first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : undefined
  const start = new TextDecoder('latin1').decode(bytes.subarray(0, 200))
  const declared =
    wide ?? /^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']/.exec(start)?.[1]?.toLowerCase()
  const label = declared ?? 'utf-8'
  try {
    return new TextDecoder(label, { fatal: true }).decode(bytes)
  } catch (error) {
    const known = error instanceof TypeError
    throw new MoraineError(
      known ? 'invalid' : 'unsupported',
      `the XML document is not in ${label.toUpperCase()}, or that is not known`,
      {
        path,
        field: 'encoding',
        value: label,
        cause: error,
      },
    )
  }
}

/** The attribute of that name. `uri` given: in that namespace or in none, as producers forget the prefix. */
export function attributeOf(element: XmlElement, local: string, uri?: string): string | undefined {
  let plain: string | undefined
  for (const attribute of element.attributes) {
    if (attribute.local !== local) continue
    if (uri === undefined || attribute.uri === uri) return attribute.value
    if (attribute.uri === '') plain = attribute.value
  }
  return plain
}

/** The first child element of that name, in whatever namespace unless one is given. */
export function childOf(element: XmlElement, local: string, uri?: string): XmlElement | undefined {
  return element.children.find((child) => child.local === local && (uri === undefined || child.uri === uri))
}

/** The child elements of that name, in whatever namespace unless one is given. */
export function childrenOf(element: XmlElement, local: string, uri?: string): XmlElement[] {
  return element.children.filter((child) => child.local === local && (uri === undefined || child.uri === uri))
}

/** The text of the first child of that name, blanks around it taken off. */
export function textOf(element: XmlElement, local: string): string | undefined {
  return childOf(element, local)?.text.trim()
}
