/** Names that stand in catalogues and are made addresses and files of: they may not lead out of the folder they stand in. */
import { MoraineError } from '@moraine/engine'

/** Checks a path from the base of a catalogue.
 *  @throws MoraineError `denied` for one that leads elsewhere: absolute, with a scheme, upwards, or in a spelling that means something else to a server */
export function checkPath(path: string, from: string, field: string): string {
  const rule = whatIsWrong(path)
  if (rule === undefined) return path
  throw new MoraineError('denied', 'the catalogue names a file outside its own folder', {
    path: from,
    field,
    value: JSON.stringify(path.slice(0, 200)),
    rule,
  })
}

function whatIsWrong(path: string): string | undefined {
  if (path === '' || path.length > 1024) return '1 to 1024 characters'
  if (/[\p{Cc}\\?#%\s]/u.test(path))
    return 'no spaces, control characters, backslashes, percent, question or number signs'
  if (path.startsWith('/')) return 'relative to the base of the catalogue'
  // A colon in the first part would make a scheme of it; simplestreams have colons in names of files.
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path) || /^[^/]*:/.test(path)) return 'no scheme'
  if (path.split('/').some((part) => part === '..' || part === '.' || part === '')) return "no empty parts, '.' or '..'"
  return undefined
}

/** Checks the name of one file.
 *  @throws MoraineError `denied` */
export function checkName(name: string, from: string, field: string): string {
  if (!name.includes('/')) return checkPath(name, from, field)
  throw new MoraineError('denied', 'the catalogue names a file outside its own folder', {
    path: from,
    field,
    value: JSON.stringify(name.slice(0, 200)),
    rule: 'the name of a file',
  })
}

/** A digest, in lower case; undefined when it is none of its algorithm. */
export function digestOf(algorithm: 'sha256' | 'sha512', text: string): string | undefined {
  const digits = algorithm === 'sha256' ? 64 : 128
  return text.length === digits && /^[0-9a-f]+$/i.test(text) ? text.toLowerCase() : undefined
}
