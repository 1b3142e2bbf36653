/** The parent locator of a differencing image: pairs of texts that tell which disk lies under this one, and where.
 *  Source: MS-VHDX 2.6.2.6. */
import { readGuid, writeGuid } from '../../bytes/guid.ts'
import { viewOf } from '../../bytes/integers.ts'
import { readUtf16le, utf16le } from '../../bytes/utf16.ts'
import { vhdxFault, vhdxLocatorType } from './layout.ts'

/** Keys that name a place, in the order in which they are tried. */
const placeKeys = ['relative_path', 'volume_path', 'absolute_win32_path'] as const

/** A parent, as its child describes it. */
export interface ParentLocator {
  /** All pairs, as they stand in the image. */
  readonly pairs: ReadonlyMap<string, string>
  /** What the parent's DataWriteGuid may be: `parent_linkage`, then `parent_linkage2`. As `readGuid` gives them. */
  readonly linkages: readonly string[]
  /** Where the parent may be, in the order in which to look; none is empty. */
  readonly names: readonly string[]
}

const entriesAt = 20
const entryBytes = 12

/** Reads the metadata item.
 *  @throws MoraineError `unsupported` for a locator of another type, `corrupt` when a text lies outside, the linkage is missing or no name is there. */
export function decodeParentLocator(path: string, bytes: Uint8Array): ParentLocator {
  const fail = (field: string, rule: string, value?: number | string) =>
    vhdxFault(path, 'corrupt', field, { rule, value })
  if (bytes.length < entriesAt) throw fail('parent locator', `at least ${entriesAt} bytes`, bytes.length)
  const type = readGuid(bytes, 0)
  if (type !== vhdxLocatorType) {
    throw vhdxFault(path, 'unsupported', 'parent locator type', { value: type, rule: vhdxLocatorType })
  }
  const view = viewOf(bytes)
  const count = view.getUint16(18, true)
  if (entriesAt + count * entryBytes > bytes.length)
    throw fail('parent locator count', 'entries inside the item', count)
  const text = (offset: number, length: number): string => {
    if (offset + length > bytes.length) throw fail('parent locator entry', 'texts inside the item', offset)
    return readUtf16le(bytes.subarray(offset, offset + length))
  }
  const pairs = new Map<string, string>()
  for (let i = 0; i < count; i++) {
    const at = entriesAt + i * entryBytes
    const key = text(view.getUint32(at, true), view.getUint16(at + 8, true))
    if (pairs.has(key)) throw fail('parent locator key', 'each key once', key)
    pairs.set(key, text(view.getUint32(at + 4, true), view.getUint16(at + 10, true)))
  }
  const linkages = ['parent_linkage', 'parent_linkage2'].flatMap((key) => {
    const value = pairs.get(key)
    return value === undefined ? [] : [value.replace(/^\{|\}$/g, '').toLowerCase()]
  })
  if (!pairs.has('parent_linkage')) throw fail('parent_linkage', 'the identifier of the parent')
  const names = placeKeys.flatMap((key) => {
    const value = pairs.get(key)
    return value === undefined || value === '' ? [] : [key === 'relative_path' ? slashed(value) : value]
  })
  if (names.length === 0) throw fail('parent locator', `one of ${placeKeys.join(', ')}`)
  return { pairs, linkages, names }
}

/** Where the text of `parent_linkage` stands in the item. Bytes. */
export function linkagePlace(bytes: Uint8Array): { offset: number; length: number } | undefined {
  const view = viewOf(bytes)
  for (let i = 0; i < view.getUint16(18, true); i++) {
    const at = entriesAt + i * entryBytes
    const key = view.getUint32(at, true)
    if (readUtf16le(bytes.subarray(key, key + view.getUint16(at + 8, true))) !== 'parent_linkage') continue
    return { offset: view.getUint32(at + 4, true), length: view.getUint16(at + 10, true) }
  }
  return undefined
}

/** A relative path of Windows, as it is written everywhere else. */
function slashed(name: string): string {
  return name.replaceAll('\\', '/').replace(/^(?:\.\/)+(?=.)/, '')
}

/** The metadata item for a parent with this DataWriteGuid at these places: from the folder of the child, and from the root. A path of another system than
 *  Windows stands in the item as it is there. */
export function encodeParentLocator(
  dataWriteGuid: string,
  { relative, absolute }: { relative: string | undefined; absolute: string | undefined },
): Uint8Array<ArrayBuffer> {
  const texts = [['parent_linkage', `{${dataWriteGuid}}`]]
  if (relative !== undefined) {
    const backslashed = relative.replaceAll('/', '\\')
    texts.push(['relative_path', /^\.\.?\\/.test(backslashed) ? backslashed : `.\\${backslashed}`])
  }
  if (absolute !== undefined) {
    const isWindows = /^[A-Za-z]:/.test(absolute)
    texts.push(['absolute_win32_path', isWindows ? absolute.replaceAll('/', '\\') : absolute])
  }
  const pairs = texts.map((pair) => pair.map(utf16le))
  let end = entriesAt + pairs.length * entryBytes
  const bytes = new Uint8Array(end + pairs.flat().reduce((sum, text) => sum + text.length, 0))
  const view = viewOf(bytes)
  writeGuid(bytes, 0, vhdxLocatorType)
  view.setUint16(18, pairs.length, true)
  for (const [i, pair] of pairs.entries()) {
    for (const [part, text] of pair.entries()) {
      const at = entriesAt + i * entryBytes
      view.setUint32(at + part * 4, end, true)
      view.setUint16(at + 8 + part * 2, text.length, true)
      bytes.set(text, end)
      end += text.length
    }
  }
  return bytes
}
