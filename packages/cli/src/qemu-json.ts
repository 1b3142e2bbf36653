/** QEMU's JSON, which takes texts in single quotes too. Its complaints are QEMU's (measured with qemu-img 7.2): no library has either. */
import { MoraineError } from '@moraine/engine'

export type JsonScalar = string | number | boolean | null
export type Json = JsonScalar | Json[] | { [key: string]: Json }

/** QEMU's own bound of nesting. */
const deepest = 1024

/** Reads one value.
 *  @throws MoraineError `invalid` in QEMU's words. */
export function parseQemuJson(text: string): Json {
  return new Parser(tokensOf(text)).whole()
}

function complaint(text: string): MoraineError {
  return new MoraineError('invalid', text)
}
interface Token {
  kind: 'mark' | 'text' | 'number' | 'word'
  text: string
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  const pattern =
    /[ \t\r\n]*(?:([[\]{},:])|("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|([a-z]+)|(.))/gsy
  for (const [, mark, quoted, number, word, stray] of text.trimEnd().matchAll(pattern)) {
    if (stray !== undefined) throw complaint(`JSON parse error, stray '${stray}'`)
    if (mark !== undefined) tokens.push({ kind: 'mark', text: mark })
    else if (quoted !== undefined) tokens.push({ kind: 'text', text: unquoted(quoted) })
    else if (number !== undefined) tokens.push({ kind: 'number', text: number })
    else if (word !== undefined) tokens.push({ kind: 'word', text: word })
  }
  return tokens
}

function unquoted(quoted: string): string {
  const inner = quoted.slice(1, -1)
  try {
    return quoted.startsWith('"')
      ? (JSON.parse(quoted) as string)
      : (JSON.parse(`"${inner.replaceAll(/\\?(['"])/g, (_, mark) => (mark === '"' ? '\\"' : "'"))}"`) as string)
  } catch {
    throw complaint('JSON parse error, invalid escape sequence in string')
  }
}

class Parser {
  readonly #tokens: readonly Token[]
  #at = 0
  #depth = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  whole(): Json {
    if (this.#tokens.length === 0) throw complaint('Expecting a JSON value')
    const value = this.#value()
    if (this.#at < this.#tokens.length) throw complaint('Expecting at most one JSON value')
    return value
  }

  #next(): Token {
    const token = this.#tokens[this.#at++]
    if (token === undefined) throw complaint('JSON parse error, premature EOI')
    return token
  }

  /** Takes the mark if it comes next. */
  #skip(mark: string): boolean {
    const token = this.#tokens[this.#at]
    if (token?.kind !== 'mark' || token.text !== mark) return false
    this.#at++
    return true
  }

  #value(): Json {
    const { kind, text } = this.#next()
    if (kind === 'text') return text
    if (kind === 'number') return Number(text)
    if (kind === 'word') {
      if (text === 'true' || text === 'false') return text === 'true'
      if (text === 'null') return null
      throw complaint(`JSON parse error, invalid keyword '${text}'`)
    }
    if (text !== '{' && text !== '[') throw complaint('JSON parse error, expecting value')
    if (++this.#depth > deepest) throw complaint('JSON parse error, nesting too deep')
    const value = text === '{' ? this.#object() : this.#list()
    this.#depth--
    return value
  }

  #object(): { [key: string]: Json } {
    const members: [string, Json][] = []
    if (this.#skip('}')) return {}
    do {
      const key = this.#next()
      if (key.kind === 'mark') throw complaint('JSON parse error, expecting value')
      if (key.kind !== 'text') throw complaint('JSON parse error, key is not a string in object')
      const separator = this.#next()
      if (separator.text !== ':' || separator.kind !== 'mark') {
        throw complaint('JSON parse error, missing : in object pair')
      }
      if (members.some(([known]) => known === key.text)) throw complaint('JSON parse error, duplicate key')
      members.push([key.text, this.#value()])
    } while (this.#more('}', 'dict'))
    return Object.fromEntries(members)
  }

  #list(): Json[] {
    const items: Json[] = []
    if (this.#skip(']')) return items
    do items.push(this.#value())
    while (this.#more(']', 'list'))
    return items
  }

  /** Whether a comma says that there is more; otherwise the end mark must come. */
  #more(end: string, what: string): boolean {
    if (this.#skip(',')) return true
    if (this.#skip(end)) return false
    this.#next()
    throw complaint(`JSON parse error, expected separator in ${what}`)
  }
}
