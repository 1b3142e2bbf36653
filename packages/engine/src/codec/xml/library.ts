/** XML by a library that is handed in. `saxes` was chosen: jsdom's parser, strict, with namespaces and places; it knows no entity but XML's own five, reports a document type
 *  declaration without reading into it, and reads as it is fed, so that bounds hold while it reads. */
import { MoraineError } from '../../core/index.ts'
import { unboundNamespace, type XmlAttribute, type XmlParser } from './document.ts'

interface Tag {
  uri: string
  local: string
  prefix: string
  attributes: Record<string, { uri: string; local: string; value: string }>
}

interface Reader {
  readonly line: number
  /** UTF-16 units that were read. */
  readonly position: number
  on(name: 'error', handler: (error: Error) => void): void
  on(name: 'doctype' | 'text' | 'cdata', handler: (text: string) => void): void
  on(name: 'attribute' | 'closetag', handler: () => void): void
  on(name: 'opentagstart', handler: () => void): void
  on(name: 'opentag', handler: (tag: Tag) => void): void
  write(text: string): Reader
  close(): Reader
}

/** What is needed of a library; `saxes` has it, in Node and in browsers. */
export interface XmlLibrary {
  SaxesParser: new (options: {
    xmlns: true
    position: true
    resolvePrefix?: (prefix: string) => string | undefined
  }) => unknown
}

const mostAttributes = 1024
const pieceCharacters = 64 * 1024

/** A parser by the library, which is loaded when it is first needed.
 *  @throws MoraineError `invalid` in the library's words, which begin with line and column. */
export function xmlParser(load: () => Promise<XmlLibrary>): XmlParser {
  return async (text, events, { unboundPrefixes = false } = {}) => {
    const { SaxesParser } = await load()
    const resolvePrefix = unboundPrefixes ? (prefix: string) => `${unboundNamespace}${prefix}` : () => undefined
    const reader = new SaxesParser({ xmlns: true, position: true, resolvePrefix }) as Reader
    let attributes = 0
    let line = 1
    let start = 0
    reader.on('error', (error) => {
      throw new MoraineError('invalid', `the XML document is not well-formed: ${error.message}`)
    })
    reader.on('doctype', () => events.doctype(reader.line))
    reader.on('text', (piece) => events.text(piece))
    reader.on('cdata', (piece) => events.text(piece))
    reader.on('opentagstart', () => {
      attributes = 0
      line = reader.line
      start = text.lastIndexOf('<', reader.position - 1)
    })
    reader.on('attribute', () => {
      attributes++
      if (attributes <= mostAttributes) return
      throw new MoraineError(
        'limit',
        `the XML document has an element with too many attributes at line ${reader.line}`,
        {
          field: 'attributes',
          value: attributes,
          rule: `at most ${mostAttributes} in one element`,
        },
      )
    })
    reader.on('opentag', (tag) => {
      const list: XmlAttribute[] = []
      for (const { uri, local, value } of Object.values(tag.attributes)) list.push({ uri, local, value })
      events.open({
        uri: tag.uri,
        local: tag.local,
        prefix: tag.prefix,
        attributes: list,
        line,
        start,
        inner: reader.position,
      })
    })
    reader.on('closetag', () => events.close(reader.position))
    for (let at = 0; at < text.length; at += pieceCharacters) reader.write(text.slice(at, at + pieceCharacters))
    reader.close()
  }
}
