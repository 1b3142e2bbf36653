/** `TYPE,a=b,c.d=e,f.0=g`: the notation of `--object`, read into a tree. Rules and words: QEMU's `keyval_parse`, measured with qemu-img 7.2. */
import { Failure } from '../failure.ts'

/** A value; dots in names make branches, and branches whose names are all numbers are lists. */
export type Tree = string | Tree[] | { [name: string]: Tree }

type Branch = Map<string, string | Branch>

/** What stands in a definition, and whether it asks for help. The first value may stand without a name and is then that of `implied`.
 *  @throws Failure */
export function readKeyval(text: string, implied: string): { values: { [name: string]: Tree }; help: boolean } {
  const root: Branch = new Map()
  let help = false
  for (let at = 0; at < text.length; ) {
    const named = text.slice(at).search(/[=,]/)
    const stop = named < 0 ? text.length : at + named
    if (stop > at && text[stop] !== '=') {
      const word = text.slice(at, stop)
      if (word === 'help' || word === '?') help = true
      else if (at === 0) put(root, implied, word)
      else place(root, word)
      at = stop + 1
      continue
    }
    const { branch, last, key } = place(root, text.slice(at, stop), text[stop] === '=')
    let value = ''
    for (at = stop + 1; at < text.length && (text[at] !== ',' || text[at + 1] === ','); at++) {
      value += text[at]
      if (text[at] === ',') at++
    }
    put(branch, last, value, key)
    at++
  }
  return { values: membersOf(root), help }
}

/** The longest part of a name. */
const longestPart = 127

/** Where the value of this name goes. */
function place(root: Branch, key: string, valued = false): { branch: Branch; last: string; key: string } {
  const parts = key.split('.')
  let branch = root
  for (const [at, part] of parts.entries()) {
    if (!/^([a-z][\w-]*|__[a-z0-9.-]+_[a-z][\w-]*)$/i.test(part) && (at === 0 || !/^\d+$/.test(part))) {
      throw new Failure(`Invalid parameter '${key}'`)
    }
    if (part.length > longestPart) {
      throw new Failure(`Parameter${parts.length > 1 ? ' fragment' : ''} '${part}' is too long`)
    }
    if (at === parts.length - 1) break
    const path = parts.slice(0, at + 1).join('.')
    const below = branch.get(indexed(part)) ?? new Map()
    if (typeof below === 'string') throw inconsistent(path)
    branch.set(indexed(part), below)
    branch = below
  }
  if (!valued) throw new Failure(`Expected '=' after parameter '${key}'`)
  return { branch, last: parts.at(-1) ?? '', key }
}

/** `00` is `0`. */
function indexed(part: string): string {
  return /^\d+$/.test(part) ? String(Number(part)) : part
}

function put(branch: Branch, last: string, value: string, key = last): void {
  if (branch.get(indexed(last)) instanceof Map) throw inconsistent(key)
  branch.set(indexed(last), value)
}

function inconsistent(path: string): Failure {
  return new Failure(`Parameters '${path}.*' used inconsistently`)
}

function membersOf(branch: Branch, path = ''): { [name: string]: Tree } {
  return Object.fromEntries([...branch].map(([name, value]) => [name, treeOf(value, path + name)]))
}

function treeOf(value: string | Branch, path: string): Tree {
  if (typeof value === 'string') return value
  const members = membersOf(value, `${path}.`)
  const numbers = [...value.keys()].filter((name) => /^\d+$/.test(name)).length
  if (numbers === 0) return members
  if (numbers < value.size) throw inconsistent(path)
  return Array.from({ length: numbers }, (_, at) => {
    const item = members[at]
    if (item === undefined) throw new Failure(`Parameter '${path}.${at}' missing`)
    return item
  })
}
