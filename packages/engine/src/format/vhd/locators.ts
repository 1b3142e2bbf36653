/** Parent locators: the names under which a differencing VHD knows its parent, and what they mean on this host. */
import { readUtf16le } from '../../bytes/utf16.ts'
import { type ByteSource, readPadded } from '../../core/index.ts'
import { type DynamicHeader, type LocatorEntry, locatorEntries, parentNameOf } from './layout.ts'

/** Longest locator that is read: a Windows path of 32,767 units. Bytes. */
const mostBytes = 65_536

/** Which locator is followed first: relative ones survive a move of the folder. */
const preference = ['W2ru', 'MacX', 'Wi2r', 'W2ku', 'Wi2k']

/** The files that may be the parent, as names for the gate, the likeliest first: what the relative locators say, then the absolute ones (of a
 *  Windows path the file of that name beside the image), then the name in the header beside the image. No protocol is ever among them. */
export async function parentNames(file: ByteSource, header: DynamicHeader): Promise<string[]> {
  const entries = locatorEntries(header)
    .filter(({ code, length }) => preference.includes(code) && length > 0 && length <= mostBytes)
    .sort((a, b) => preference.indexOf(a.code) - preference.indexOf(b.code))
  const names: string[] = []
  for (const entry of entries) {
    const text = await readLocator(file, entry)
    names.push(...(entry.code === 'MacX' ? namesOfUrl(text) : namesOfWindowsPath(text)))
  }
  names.push(...namesOfWindowsPath(parentNameOf(header)))
  return [...new Set(names.filter(isName).map(withoutProtocol))]
}

async function readLocator(file: ByteSource, { code, offset, length }: LocatorEntry): Promise<string> {
  if (offset + length > file.size) return ''
  const bytes = new Uint8Array(length)
  await readPadded(file, offset, bytes)
  const text =
    code === 'W2ru' || code === 'W2ku'
      ? readUtf16le(bytes)
      : new TextDecoder(code === 'MacX' ? 'utf-8' : 'latin1').decode(bytes)
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** A path of Windows here: a relative one with slashes, an absolute one as a file beside the image. */
function namesOfWindowsPath(path: string): string[] {
  const slashed = path.replaceAll('\\', '/')
  const name = slashed.slice(slashed.lastIndexOf('/') + 1)
  const isAbsolute = /^([A-Za-z]:|\/)/.test(slashed)
  const relative = slashed.replace(/^(\.\/)+/, '')
  // A tool of another system may have put its own kind of path here.
  if (path.startsWith('/')) return [path, name]
  return isAbsolute ? [name] : [relative, name]
}

/** `file://./name.vhd` (XenServer), `file:///folder/name.vhd`, `file:name.vhd`. */
function namesOfUrl(url: string): string[] {
  const match = /^file:(?:\/\/(localhost)?)?(.*)$/.exec(url)
  if (match === null) return []
  let path = match[2] ?? ''
  try {
    path = decodeURIComponent(path)
  } catch {
    // A stray percent sign: the name as it stands.
  }
  const name = path.slice(path.lastIndexOf('/') + 1)
  return path.startsWith('/') ? [path, name] : [path.replace(/^(\.\/)+/, ''), name]
}

function isName(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no file of a disk image is called so
  return name !== '' && name !== '.' && name !== '..' && !/[\u0000-\u001f]/.test(name)
}

/** A name with a colon before any slash is a file all the same. */
function withoutProtocol(name: string): string {
  return /^[^/]*:/.test(name) ? `./${name}` : name
}
