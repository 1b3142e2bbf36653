/** Names of new FAT volumes: long ones, and the short ones of eight characters and three that stand for them. Facts: Microsoft's FAT specification (2005), sections 6 and 7. */
import { MoraineError } from '../../core/index.ts'
import type { NewNode } from '../new-tree.ts'

/** One name as it stands on the volume. */
export interface FatName {
  /** Eleven bytes: the name and its extension, padded with blanks. */
  short: Uint8Array
  /** The whole name, where the short one does not say it. */
  long: string | undefined
}

const mostUnits = 255
const entryUnits = 13

/** The names of what a directory holds.
 *  @throws MoraineError `invalid` for names that FAT does not have, and those that are the same to it. */
export function fatNames(children: readonly NewNode[]): Map<NewNode, FatName> {
  const folded = new Map<string, NewNode>()
  for (const node of children) {
    checkName(node)
    const key = node.name.toUpperCase()
    const other = folded.get(key)
    if (other !== undefined)
      throw refused(node, `it is the same as '${other.name}', as the case of letters does not count`)
    folded.set(key, node)
  }
  const names = new Map<NewNode, FatName>()
  const taken = new Set<string>()
  // Names that are short ones already come first: no other may take them.
  for (const node of children) {
    if (!isShort(node.name)) continue
    const { base, extension } = shortParts(node.name)
    taken.add(`${base}.${extension}`)
    names.set(node, { short: shortBytes(base, extension), long: undefined })
  }
  for (const node of children) {
    if (names.has(node)) continue
    const { base, extension } = unique(shortParts(node.name), taken)
    names.set(node, { short: shortBytes(base, extension), long: node.name })
  }
  return names
}

function refused(node: NewNode, why: string): MoraineError {
  return new MoraineError('invalid', `'${node.path}' cannot be on a FAT volume: ${why}`, {
    format: 'fat',
    field: 'path',
    value: node.path,
  })
}

function checkName(node: NewNode): void {
  const { name, entry } = node
  if (entry.kind === 'symlink') throw refused(node, 'it has no symbolic links')
  if (name.length > mostUnits) throw refused(node, `its name is longer than ${mostUnits} units of UTF-16`)
  if (/["*/:<>?\\|\p{Cc}]/u.test(name)) throw refused(node, 'a character of its name is not possible')
  if (/[. ]$/.test(name)) throw refused(node, 'its name ends in a dot or a blank')
}

const shortCharacters = "A-Z0-9$%'_@~`!(){}^#&\\-"
const isShortName = new RegExp(`^[${shortCharacters}]{1,8}(?:\\.[${shortCharacters}]{1,3})?$`)
const otherCharacters = new RegExp(`[^${shortCharacters}]`, 'gu')

function isShort(name: string): boolean {
  return isShortName.test(name)
}

function shortParts(name: string): { base: string; extension: string } {
  const bare = name.toUpperCase().replaceAll(' ', '').replace(/^\.+/, '')
  const dot = bare.lastIndexOf('.')
  const clean = (text: string): string => text.replaceAll('.', '').replaceAll(otherCharacters, '_')
  return dot < 0
    ? { base: clean(bare), extension: '' }
    : { base: clean(bare.slice(0, dot)), extension: clean(bare.slice(dot + 1)).slice(0, 3) }
}

/** A short name for a long one: its beginning, and a number. */
function unique(
  { base, extension }: { base: string; extension: string },
  taken: Set<string>,
): { base: string; extension: string } {
  for (let number = 1; ; number++) {
    const tail = `~${number}`
    const numbered = `${(base === '' ? '_' : base).slice(0, 8 - tail.length)}${tail}`
    const key = `${numbered}.${extension}`
    if (taken.has(key)) continue
    taken.add(key)
    return { base: numbered, extension }
  }
}

function shortBytes(base: string, extension: string): Uint8Array {
  return Uint8Array.from(base.padEnd(8) + extension.padEnd(3), (character) => character.charCodeAt(0))
}

/** How many entries of 32 bytes a name takes. */
export function entriesFor({ long }: FatName): number {
  return 1 + (long === undefined ? 0 : Math.ceil(long.length / entryUnits))
}

/** Where the units of a long name stand in an entry. */
const unitPlaces = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]

/** The entries of a long name, which stand before that of the short one; none where there is none. */
export function longEntries({ short, long }: FatName): Uint8Array[] {
  if (long === undefined) return []
  const count = Math.ceil(long.length / entryUnits)
  const checksum = short.reduce((sum, byte) => ((((sum & 1) << 7) | (sum >>> 1)) + byte) & 0xff, 0)
  return Array.from({ length: count }, (_, index) => {
    const number = count - index
    const bytes = new Uint8Array(32)
    const view = new DataView(bytes.buffer)
    bytes[0] = number | (index === 0 ? 0x40 : 0)
    bytes[11] = 0x0f
    bytes[13] = checksum
    for (const [place, at] of unitPlaces.entries()) {
      const unit = (number - 1) * entryUnits + place
      // One zero ends the name; what is left is filled.
      view.setUint16(at, unit < long.length ? long.charCodeAt(unit) : unit === long.length ? 0 : 0xffff, true)
    }
    return bytes
  })
}
