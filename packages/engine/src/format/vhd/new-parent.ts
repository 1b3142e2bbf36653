/** What a new differencing VHD records of its parent: unique id, time, name, and a locator for each kind of system. */
import { viewOf } from '../../bytes/integers.ts'
import { utf16le } from '../../bytes/utf16.ts'
import { MoraineError } from '../../core/index.ts'
import type { NewBacking } from '../format.ts'
import { parentPlaces } from '../new-parent.ts'
import { type Footer, sectorBytes, setParent } from './layout.ts'

/** Longest name in the header, in UTF-16 units. */
const mostNameUnits = 255

/** A parent, as it is recorded. */
export interface NewVhdParent {
  footer: Footer
  /** The parent's own name, without folders. */
  name: string
  modifiedSeconds: number | undefined
  locators: readonly { code: string; bytes: Uint8Array }[]
}

/** What is recorded of a parent: relative and absolute paths of Windows in UTF-16, and a URL, relative as XenServer writes it. A path of another system stands
 *  as it is there. Source: VHD specification 1.0, "Dynamic Disk Header Format".
 *  @throws MoraineError `invalid` for too long a name. */
export function newVhdParent(backing: NewBacking, footer: Footer): NewVhdParent {
  const { relative, absolute } = parentPlaces(backing)
  const known = relative ?? absolute ?? ''
  const name = known.slice(known.lastIndexOf('/') + 1)
  if (name.length > mostNameUnits) {
    throw new MoraineError('invalid', 'Backing file name too long', {
      format: 'vhd',
      field: 'parent_unicode_name',
      value: name.length,
      rule: `at most ${mostNameUnits} UTF-16 units`,
    })
  }
  const locators: { code: string; bytes: Uint8Array }[] = []
  if (absolute !== undefined) {
    const isWindows = /^[A-Za-z]:/.test(absolute)
    locators.push({ code: 'W2ku', bytes: utf16le(isWindows ? absolute.replaceAll('/', '\\') : absolute) })
  }
  if (relative !== undefined) {
    const dotted = /^\.\.?\//.test(relative) ? relative : `./${relative}`
    locators.push({ code: 'W2ru', bytes: utf16le(dotted.replaceAll('/', '\\')) })
    locators.push({ code: 'MacX', bytes: urlOf(dotted) })
  } else locators.push({ code: 'MacX', bytes: urlOf(absolute ?? '') })
  return { footer, name, modifiedSeconds: backing.place?.modifiedSeconds, locators }
}

function urlOf(path: string): Uint8Array {
  return new TextEncoder().encode(`file://${path.split('/').map(encodeURIComponent).join('/')}`)
}

/** Bytes that the locators take in the file. */
export function locatorBytes({ locators }: NewVhdParent): number {
  return locators.reduce((sum, { bytes }) => sum + spaceOf(bytes), 0)
}

function spaceOf(bytes: Uint8Array): number {
  return Math.ceil(bytes.length / sectorBytes) * sectorBytes
}

/** Puts the parent into a dynamic header. Returns the locators' bytes, which lie at byte `offset` of the file. */
export function recordParent(header: Uint8Array, parent: NewVhdParent, offset: number): Uint8Array {
  const area = new Uint8Array(locatorBytes(parent))
  const entries: { code: string; space: number; length: number; offset: number }[] = []
  let at = 0
  for (const { code, bytes } of parent.locators) {
    area.set(bytes, at)
    entries.push({ code, space: spaceOf(bytes), length: bytes.length, offset: offset + at })
    at += spaceOf(bytes)
  }
  const name = new Uint8Array(parent.name.length * 2)
  const view = viewOf(name)
  for (let i = 0; i < parent.name.length; i++) view.setUint16(i * 2, parent.name.charCodeAt(i))
  setParent(header, { uniqueId: parent.footer.uniqueId, seconds: parent.modifiedSeconds, name, entries })
  return area
}
