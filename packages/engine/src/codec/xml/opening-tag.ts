/** One opening tag as it is written, for those who look for places in a text rather than for its meaning. A tag is walked from its beginning, so that nothing within a value is taken for an
 *  attribute, and once, so that a stranger's text costs no more than its length. Facts: XML 1.0, productions 3, 10, 40 and 66. */

/** One attribute, in places of the tag. */
interface WrittenAttribute {
  /** As it is written, with its prefix. */
  name: string
  /** What stands between the quotes, as it is written. */
  value: string
  /** Where that begins, behind the first quote, and where the second one stands. */
  start: number
  end: number
}

/** An opening tag. */
interface WrittenTag {
  /** As it is written, with its prefix. */
  name: string
  attributes: WrittenAttribute[]
  /** Whether it was understood up to its `>`; of what comes behind the first fault there is nothing in `attributes`. */
  whole: boolean
}

/** Walks a tag: `text` begins with its `<`, and what stands behind its `>` does not matter. */
export function readOpeningTag(text: string): WrittenTag {
  const tag: WrittenTag = { name: nameAt(text, 1), attributes: [], whole: false }
  let at = 1 + tag.name.length
  for (;;) {
    const next = behindBlanks(text, at)
    if (text[next] === '>' || text.startsWith('/>', next)) {
      tag.whole = true
      return tag
    }
    const name = nameAt(text, next)
    const equals = behindBlanks(text, next + name.length)
    const quoteAt = behindBlanks(text, equals + 1)
    const quote = text[quoteAt]
    if (next === at || name === '' || text[equals] !== '=' || (quote !== '"' && quote !== "'")) return tag
    const [start, end] = [quoteAt + 1, text.indexOf(quote, quoteAt + 1)]
    const value = text.slice(start, Math.max(start, end))
    // No value has this sign in it, which begins another tag.
    if (end < 0 || value.includes('<')) return tag
    tag.attributes.push({ name, value, start, end })
    at = end + 1
  }
}

/** A name without its prefix. */
export function localName(name: string): string {
  return name.slice(name.lastIndexOf(':') + 1)
}

/** The value of an attribute with its references resolved; undefined where one of them is none of XML's own. */
export function resolveReferences(value: string): string | undefined {
  let known = true
  const text = value.replace(/&([^;&]{0,10};?)/g, (_all, reference: string) => {
    const letter = letterOf(reference)
    known &&= letter !== undefined
    return letter ?? ''
  })
  return known ? text : undefined
}

const named = new Map([
  ['amp;', '&'],
  ['lt;', '<'],
  ['gt;', '>'],
  ['quot;', '"'],
  ['apos;', "'"],
])

function letterOf(reference: string): string | undefined {
  const [, hex, decimal] = /^#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,8}));$/.exec(reference) ?? []
  if (hex === undefined && decimal === undefined) return named.get(reference)
  const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16)
  return code <= 0x10ffff ? String.fromCodePoint(code) : undefined
}

function nameAt(text: string, from: number): string {
  const pattern = /[^ \t\r\n=/>"'<]*/y
  pattern.lastIndex = from
  return pattern.exec(text)?.[0] ?? ''
}

function behindBlanks(text: string, from: number): number {
  const pattern = /[ \t\r\n]*/y
  pattern.lastIndex = from
  return from + (pattern.exec(text)?.[0].length ?? 0)
}
