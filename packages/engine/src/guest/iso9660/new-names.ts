/** Names of new volumes: those of ISO 9660, of few capital letters, and those of Joliet; unique within each directory. Facts: ECMA-119 4th edition, sections 7.5, 7.6 and 10; Joliet
 *  specification, "Allowed characters". How names that come out the same are told apart, by a number at their end, is libisofs' way. */
import type { NewNode } from '../new-tree.ts'

/** How long names of ISO 9660 may be: 1 has eight characters and three, the others 31 in all. */
export type IsoLevel = 1 | 2 | 3

/** Units of UTF-16 in a Joliet name. The specification has 64; 103 fit into a record and are read by all that is known. */
const jolietLength = 64

/** A name in parts, so that it can be made shorter. */
interface Parts {
  base: string
  /** With its dot; may be empty. */
  extension: string
}

/** The identifiers of ISO 9660 for what a directory holds: `NAME.EXT;1`, and `NAME` for directories. */
export function isoIdentifiers(children: readonly NewNode[], level: IsoLevel): Map<NewNode, string> {
  const most = level === 1 ? 8 : 30
  const unique = makeUnique(children, (node, digits) => {
    const isDirectory = node.entry.kind === 'directory'
    const { base, extension } = split(node.name, isDirectory)
    const end = clean(extension.slice(1))
    if (level === 1)
      return { base: clean(base).slice(0, most - digits), extension: end === '' ? '' : `.${end.slice(0, 3)}` }
    const short = end.slice(0, Math.max(3, most - base.length))
    const room = (isDirectory ? most + 1 : most) - digits - short.length
    return { base: clean(base).slice(0, room), extension: short === '' ? '' : `.${short}` }
  })
  for (const [node, name] of unique) {
    if (node.entry.kind !== 'directory') unique.set(node, `${name.includes('.') ? name : `${name}.`};1`)
  }
  return unique
}

function clean(text: string): string {
  // Most names are plain.
  return /^[\x20-\x7e]*$/.test(text)
    ? text.toUpperCase().replace(/[^A-Z0-9_]/g, '_')
    : [...text].map(isoCharacter).join('')
}

function isoCharacter(character: string): string {
  const upper = character.toUpperCase()
  return /^[A-Z0-9_]$/.test(upper) ? upper : '_'
}

/** The names of Joliet for what a directory holds. */
export function jolietNames(children: readonly NewNode[]): Map<NewNode, string> {
  return makeUnique(children, (node, digits) => {
    const clean = node.name.toWellFormed().replaceAll(/[*/:;?\\\p{Cc}]/gu, '_')
    const { base, extension } = split(clean, node.entry.kind === 'directory')
    const end = extension.length > jolietLength / 4 ? '' : extension
    const whole = end === '' ? clean : base
    return { base: cutPairs(whole, jolietLength - digits - end.length), extension: end }
  })
}

/** The first `length` units, no pair cut in two. */
function cutPairs(text: string, length: number): string {
  const cut = text.slice(0, length)
  return cut.isWellFormed() ? cut : cut.slice(0, -1)
}

function split(name: string, isDirectory: boolean): Parts {
  const dot = name.lastIndexOf('.')
  if (isDirectory || dot <= 0) return { base: name, extension: '' }
  return { base: name.slice(0, dot), extension: name.slice(dot) }
}

/** Names as `shorten` makes them (with room for some digits); those that come out the same get numbers. */
function makeUnique(
  children: readonly NewNode[],
  shorten: (node: NewNode, digits: number) => Parts,
): Map<NewNode, string> {
  const plain = new Map(children.map((node) => [node, joined(shorten(node, 0))]))
  const counts = new Map<string, number>()
  for (const name of plain.values()) counts.set(name, (counts.get(name) ?? 0) + 1)
  const taken = new Set([...plain.values()].filter((name) => counts.get(name) === 1))
  const next = new Map<string, number>()
  for (const [node, name] of plain) {
    if (counts.get(name) === 1) continue
    for (let number = next.get(name) ?? 0; ; number++) {
      const { base, extension } = shorten(node, String(number).length)
      const numbered = joined({ base: base + number, extension })
      if (taken.has(numbered)) continue
      taken.add(numbered)
      plain.set(node, numbered)
      next.set(name, number + 1)
      break
    }
  }
  return plain
}

function joined({ base, extension }: Parts): string {
  return base + extension
}
