/** Changes in the text of a document, by the places of its elements: all else stays as it was, comments and strange sections too. */

import { childOf, type XmlElement } from '../../../codec/xml/document.ts'
import { escapeXml } from '../../../codec/xml/escape.ts'
import { localName, readOpeningTag } from '../../../codec/xml/opening-tag.ts'
import { MoraineError } from '../../../core/index.ts'

interface Change {
  start: number
  end: number
  text: string
}

/** Changes of one document, made together. */
export class TextEdits {
  readonly #text: string
  readonly #changes: Change[] = []

  constructor(text: string) {
    this.#text = text
  }

  /** Whether anything changes. */
  get isEmpty(): boolean {
    return this.#changes.length === 0
  }

  /** Gives an element another text; what is in it goes. */
  setText(element: XmlElement, value: string): void {
    const opening = this.#text.slice(element.start, element.inner)
    if (!opening.endsWith('/>')) {
      this.#replace(element.inner, this.#text.lastIndexOf('</', element.end - 1), escapeXml(value))
      return
    }
    this.#replace(
      element.start,
      element.end,
      `${opening.slice(0, -2).trimEnd()}>${escapeXml(value)}</${qualified(element)}>`,
    )
  }

  /** Gives a child another text, or makes one where there is none: in the place that the order of the alphabet gives it, with the prefix of its neighbours. */
  setChildText(parent: XmlElement, local: string, value: string): void {
    const child = childOf(parent, local)
    if (child !== undefined) {
      this.setText(child, value)
      return
    }
    const behind = parent.children.findLast((each) => each.local < local)
    const before = parent.children[0]
    const like = behind ?? before
    if (like === undefined)
      throw new MoraineError('unsupported', `an element without children cannot be changed, at line ${parent.line}`, {
        field: local,
      })
    const name = like.prefix === '' ? local : `${like.prefix}:${local}`
    this.insert(
      behind?.end ?? like.start,
      `${behind === undefined ? '' : this.indentOf(like)}<${name}>${escapeXml(value)}</${name}>${behind === undefined ? this.indentOf(like) : ''}`,
    )
  }

  /** Gives an attribute another value, or makes one. `name` as it is written, with its prefix. */
  setAttribute(element: XmlElement, name: string, value: string): void {
    const opening = this.#text.slice(element.start, element.inner)
    const { attributes } = readOpeningTag(opening)
    const found =
      attributes.find((attribute) => attribute.name === name) ??
      attributes.find((attribute) => localName(attribute.name) === localName(name))
    const text = escapeXml(value)
    if (found === undefined) {
      const at = element.inner - (opening.endsWith('/>') ? 2 : 1)
      this.insert(at, ` ${name}="${text}"`)
      return
    }
    // With its quotes, which may be single ones.
    this.#replace(element.start + found.start - 1, element.start + found.end + 1, `"${text}"`)
  }

  /** Puts other text in the place of an element. */
  replaceElement(element: XmlElement, text: string): void {
    this.#replace(element.start, element.end, text)
  }

  /** The prefix that an attribute is written with, with its colon; empty where it has none. */
  prefixOf(element: XmlElement, local: string): string {
    const { attributes } = readOpeningTag(this.#text.slice(element.start, element.inner))
    const found = attributes.find(({ name }) => name.endsWith(`:${local}`))
    return found?.name.slice(0, -local.length) ?? ''
  }

  /** Takes an element away, and the blank line that it would leave. */
  remove(element: XmlElement): void {
    let start = element.start
    while (start > 0 && (this.#text[start - 1] === ' ' || this.#text[start - 1] === '\t')) start--
    if (this.#text[start - 1] === '\n') start--
    if (this.#text[start - 1] === '\r') start--
    this.#replace(start, element.end, '')
  }

  insert(at: number, text: string): void {
    this.#changes.push({ start: at, end: at, text })
  }

  /** The line break and blanks before an element. */
  indentOf(element: XmlElement): string {
    const line = this.#text.lastIndexOf('\n', element.start)
    const blanks = /^[ \t]*/.exec(this.#text.slice(line + 1, element.start))?.[0] ?? ''
    return line < 0 || line + 1 + blanks.length !== element.start ? '\n' : `\n${blanks}`
  }

  #replace(start: number, end: number, text: string): void {
    this.#changes.push({ start, end, text })
  }

  /** The text with all changes.
   *  @throws MoraineError `invalid` when two of them are of the same place. */
  apply(): string {
    // Of what is inserted at one place, what was asked for first comes first.
    const changes = this.#changes
      .map((change, index) => ({ ...change, index }))
      .sort((a, b) => a.start - b.start || a.end - b.end || a.index - b.index)
    let text = ''
    let at = 0
    for (const { start, end, text: more } of changes) {
      if (start < at)
        throw new MoraineError('invalid', 'two changes of the descriptor are of the same place', {
          field: 'descriptor',
        })
      text += this.#text.slice(at, start) + more
      at = end
    }
    return text + this.#text.slice(at)
  }
}

function qualified({ prefix, local }: XmlElement): string {
  return prefix === '' ? local : `${prefix}:${local}`
}
