/** JSON from strangers: bounded in size and depth before it is parsed, each name once in an object, and fields read with their type checked. */
import { MoraineError } from '@moraine/engine'

/** Ubuntu's daily catalogue, the largest about, has some megabytes and five levels below its products. */
const mostDepth = 32

/** An object of JSON. */
export type JsonObject = Readonly<Record<string, unknown>>

/** Parses a text.
 *  @throws MoraineError `invalid` with the offset where it can be known, `limit` for depth */
export function parseJson(text: string, path: string): unknown {
  scan(text, path)
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new MoraineError('invalid', `this is no JSON: ${(error as Error).message}`, { path, cause: error })
  }
}

/** Looks at brackets and names alone: what else is wrong, the parser says. A name that stands twice would let two readers see two different catalogues. */
function scan(text: string, path: string): void {
  const open: (Set<string> | undefined)[] = []
  let isName = false
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x7b: // {
        open.push(new Set())
        isName = true
        break
      case 0x5b: // [
        open.push(undefined)
        isName = false
        break
      case 0x7d: // }
      case 0x5d: // ]
        open.pop()
        isName = false
        break
      case 0x2c: // ,
        isName = open.at(-1) !== undefined
        break
      case 0x22: {
        const end = stringEnd(text, at)
        if (isName) noteName(text.slice(at, end + 1), open.at(-1), path, at)
        isName = false
        at = end
      }
    }
    if (open.length > mostDepth) {
      throw new MoraineError('limit', 'the JSON is nested too deep', { path, offset: at, rule: `${mostDepth} levels` })
    }
  }
}

function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22) return at
    if (code === 0x5c) at++
  }
  return text.length
}

function noteName(written: string, names: Set<string> | undefined, path: string, offset: number): void {
  const name = written.includes('\\') ? unescaped(written) : written
  if (names?.has(name))
    throw new MoraineError('invalid', `the name ${name} stands twice in one object`, { path, offset })
  names?.add(name)
}

function unescaped(written: string): string {
  try {
    return JSON.stringify(JSON.parse(written))
  } catch {
    return written
  }
}

/** Reads fields of one object; a message names the place in the document. */
export class Fields {
  readonly path: string
  readonly place: string
  readonly object: JsonObject

  /** @throws MoraineError `invalid` when it is no object */
  constructor(value: unknown, path: string, place: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new MoraineError('invalid', 'this is no JSON object', {
        path,
        field: place,
        value: kindOf(value),
        rule: 'an object',
      })
    }
    this.object = value as JsonObject
    this.path = path
    this.place = place
  }

  /** @throws MoraineError `invalid` */
  text(name: string): string {
    return this.optionalText(name) ?? this.wrong(name, 'a text')
  }

  /** @throws MoraineError `invalid` when it is there and no text */
  optionalText(name: string): string | undefined {
    const value = this.own(name)
    return value === undefined || typeof value === 'string' ? value : this.wrong(name, 'a text')
  }

  /** @throws MoraineError `invalid` when it is there and neither true nor false */
  optionalFlag(name: string): boolean | undefined {
    const value = this.own(name)
    return value === undefined || typeof value === 'boolean' ? value : this.wrong(name, 'true or false')
  }

  /** The objects that stand below a name, by theirs.
   *  @throws MoraineError `invalid` */
  objects(name: string): [string, Fields][] {
    const value = this.own(name)
    const within = new Fields(value, this.path, this.placeOf(name))
    return Object.entries(within.object).map(([key, one]) => [
      key,
      new Fields(one, this.path, `${within.place}[${JSON.stringify(key)}]`),
    ])
  }

  /** What stands there itself, not what objects inherit. */
  own(name: string): unknown {
    return Object.hasOwn(this.object, name) ? this.object[name] : undefined
  }

  /** @throws MoraineError `invalid`, always */
  wrong(name: string, rule: string): never {
    const value = this.own(name)
    throw new MoraineError('invalid', `the catalogue is not as it should be`, {
      path: this.path,
      field: this.placeOf(name),
      value: kindOf(value),
      rule,
    })
  }

  private placeOf(name: string): string {
    return this.place === '' ? name : `${this.place}.${name}`
  }
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'missing'
  return String(JSON.stringify(value)).slice(0, 80)
}
