/** File names as QEMU reads them, and the gate that opens what images name. Facts: QEMU 7.2 `block.c` (path_has_protocol, path_combine). */
import { isUndecoded } from '../../bytes/name-text.ts'
import { type Gate, MoraineError } from '../../core/index.ts'
import { type OpenFileOptions, openFile } from './open-file.ts'

/** What stands before the first colon, when no slash comes before it: `nbd` in `nbd://host`, `json` in `json:{…}`. */
export function protocolOf(name: string): string | undefined {
  return /^([^:/]*):/.exec(name)?.[1]
}

/** The path on this host that a name means: `file:` is taken off, and what has a colon of its own then begins with `./`; `./a:b` and `/a:b` are paths as they stand.
 *  @throws MoraineError `unsupported` for every other protocol, and for names with bytes that are not UTF-8. */
export function localPath(name: string): string {
  if (isUndecoded(name)) {
    throw new MoraineError('unsupported', 'The name is not UTF-8', {
      path: name,
      field: 'name',
      rule: 'names of files are text here',
    })
  }
  const protocol = protocolOf(name)
  if (protocol === undefined) return name
  if (protocol === 'file') {
    const path = name.slice('file:'.length)
    return protocolOf(path) === undefined ? path : `./${path}`
  }
  throw new MoraineError('unsupported', `Unknown protocol '${protocol}'`, {
    path: name,
    field: 'protocol',
    value: protocol,
    hint: `Write file:${name} if this is the name of a file.`,
  })
}

/** A gate that opens every file which images name, as qemu-img does: relative names are relative to the folder of the image that names them, those
 *  of data files to the working folder of the process (measured: QEMU 7.2 makes and opens them there). `lock` is `openFile`'s, for the files it opens. */
export function fileGate(options: Pick<OpenFileOptions, 'lock' | 'native' | 'sync'> = {}): Gate {
  const resolve: Gate['resolve'] = ({ from, name, role }) => {
    if (role === 'data-file' || name.startsWith('/') || protocolOf(name) !== undefined) return name
    const image = protocolOf(from) === 'file' ? from.slice('file:'.length) : from
    const start = protocolOf(image) === undefined ? 0 : image.indexOf(':') + 1
    return image.slice(0, Math.max(start, image.lastIndexOf('/') + 1)) + name
  }
  return {
    resolve,
    open: async (request) => openFile(localPath(resolve(request)), { ...options, mode: request.mode }),
  }
}
