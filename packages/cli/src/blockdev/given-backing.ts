/** The backing file that options describe for an image, in place of the one that it names. */
import { readJsonName } from './json-name.ts'
import { jsonName, type NameParts, type NodeOptions, readImageOptions } from './options.ts'

/** What stands below `backing` in options. */
export interface GivenBacking {
  /** A name by which it is opened by itself; undefined: there shall be none. */
  name: string | undefined
  /** The file that it is, where it is no more than that. */
  file: string | undefined
}

/** Reads the options of an image for its backing file; undefined where they say nothing of it.
 *  @throws MoraineError `invalid` where they cannot be read. */
export function givenBacking(name: string, imageOpts: boolean): GivenBacking | undefined {
  const options = readOptions(name, imageOpts)
  const value = options?.peek('backing')
  if (value === null || value === '') return { name: undefined, file: undefined }
  if (options === undefined || !options.hasBelow('backing')) return undefined
  const below = options.takeBelow('backing')
  const parts: NameParts = {}
  for (const key of below.names()) parts[key] = below.peek(key) ?? null
  const isFile = [undefined, 'file'].includes(below.peek('file.driver')?.toString())
  const file = isFile ? below.takeText('file.filename') : undefined
  return { name: jsonName(parts), file }
}

function readOptions(name: string, imageOpts: boolean): NodeOptions | undefined {
  // What is to be warned of was said when the image was opened.
  if (imageOpts) return readImageOptions(name, () => {})
  return name.startsWith('json:') ? readJsonName(name.slice('json:'.length)) : undefined
}
