/** Stands in for `node:path` in the standalone executable (scripts/build-binary.ts): loading Bun's takes longer than a small image does to be made. Plain names are parted and joined here;
 *  whatever else is asked for is for Bun's own. */
import type nodePath from 'node:path'

let loaded: typeof nodePath | undefined

function whole(): typeof nodePath {
  loaded ??= process.getBuiltinModule('node:path')
  return loaded
}

/** Whether a name has nothing that would be taken out of it: no part of it is empty, `.` or `..`; it may begin with a slash. */
function isPlain(name: string): boolean {
  const first = name.charCodeAt(0) === slash ? 1 : 0
  for (let at = first; at <= name.length; ) {
    const found = name.indexOf('/', at)
    const end = found < 0 ? name.length : found
    if (end === at || (end - at < 3 && /^\.\.?$/.test(name.slice(at, end)))) return false
    at = end + 1
  }
  return true
}

const slash = 0x2f

function dirname(path: string): string {
  if (!isPlain(path)) return whole().dirname(path)
  const end = path.lastIndexOf('/')
  return end < 0 ? '.' : path.slice(0, Math.max(1, end))
}

function basename(path: string, suffix?: string): string {
  return suffix !== undefined || !isPlain(path) ? whole().basename(path, suffix) : path.slice(path.lastIndexOf('/') + 1)
}

function join(...parts: string[]): string {
  const [folder, name] = parts
  if (parts.length !== 2 || folder === undefined || name === undefined) return whole().join(...parts)
  if (!isPlain(name) || name.startsWith('/') || !(folder === '.' || isPlain(folder))) return whole().join(...parts)
  return folder === '.' ? name : `${folder}/${name}`
}

const own: Record<PropertyKey, unknown> = { dirname, basename, join }

/** `node:path`, of which little is loaded. */
export default new Proxy(own, {
  get(known, name) {
    if (!(name in known)) known[name] = Reflect.get(whole(), name)
    return known[name]
  },
}) as unknown as typeof nodePath
