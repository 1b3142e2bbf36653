/** The descriptor: the text that says what a VMDK is and which extents it is made of. Facts: VMware's "Virtual Disk Format 5.0"; keys in any case, CR or not,
 *  blanks around everything, NULs behind the text, as its readers take them. */
import { latin1 } from '../../bytes/header.ts'
import { MoraineError } from '../../core/index.ts'
import { bounds } from './layout.ts'

/** How the guest may use an extent. */
export type Access = 'RW' | 'RDONLY' | 'NOACCESS'

/** The line of one extent. */
export interface ExtentLine {
  access: Access
  /** Guest sectors. */
  sectors: number
  /** `FLAT`, `SPARSE`, `ZERO`, `VMFS`, `VMFSSPARSE`, `SESPARSE`, `VMFSRDM`, `VMFSRAW`. */
  type: string
  /** Missing for `ZERO`. */
  name: string | undefined
  /** Sectors into the file, for flat extents. */
  offset: number
}

/** What a descriptor says. */
export interface Descriptor {
  /** Content identity: changes when the content does. */
  cid: number
  /** The content identity that the parent must have; `noParent` when there is none. */
  parentCid: number
  createType: string
  parentName: string | undefined
  extents: ExtentLine[]
  /** The entries of the disk data base, without `ddb.`; keys in lower case. */
  ddb: ReadonlyMap<string, string>
}

/** `parentCID` of a disk without a parent. */
export const noParent = 0xffff_ffff

const accesses: ReadonlySet<string> = new Set(['RW', 'RDONLY', 'NOACCESS'])
const types: ReadonlySet<string> = new Set([
  'FLAT',
  'SPARSE',
  'ZERO',
  'VMFS',
  'VMFSSPARSE',
  'SESPARSE',
  'VMFSRDM',
  'VMFSRAW',
])

/** Keys that stand once at most: two answers to one question are an attempt to tell different readers different things. */
const single: ReadonlySet<string> = new Set(['version', 'cid', 'parentcid', 'createtype', 'parentfilenamehint'])

/** Reads a descriptor; an embedded one need tell neither its type nor its extents, which its file shows.
 *  @throws MoraineError `invalid`, naming the key or the line; `limit` for too many extents. */
export function parseDescriptor(bytes: Uint8Array, path: string, embedded = false): Descriptor {
  const fail = (reason: string, field: string, value?: string): never => {
    throw new MoraineError('invalid', reason, { path, format: 'vmdk', field, value })
  }
  const keys = new Map<string, string>()
  const ddb = new Map<string, string>()
  const extents: ExtentLine[] = []
  for (const raw of textOf(bytes).split('\n')) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const word = /^[A-Za-z]+(?=\s)/.exec(line)?.[0]
    if (word !== undefined && accesses.has(word.toUpperCase())) {
      if (extents.length >= bounds.extents) {
        throw new MoraineError('limit', 'the descriptor names too many extents', {
          path,
          format: 'vmdk',
          field: 'extents',
          rule: `at most ${bounds.extents}`,
        })
      }
      const extent = parseExtent(line)
      if (extent !== undefined) extents.push(extent)
      else if (!embedded) fail(`Invalid extent line: ${line}`, 'extent', line)
      continue
    }
    const pair = /^([^=]*?)\s*=\s*(.*)$/.exec(line)
    if (pair === null) continue
    const key = (pair[1] ?? '').toLowerCase()
    const value = unquote(pair[2] ?? '')
    if (key.startsWith('ddb.')) {
      ddb.set(key.slice(4), value)
      continue
    }
    if (keys.has(key) && single.has(key)) fail('a key of the descriptor stands twice', key)
    keys.set(key, value)
  }
  const createType = keys.get('createtype')
  if (createType === undefined && !embedded) return fail('invalid VMDK image descriptor', 'createType')
  const identity = (key: string): number => parseCid(keys.get(key.toLowerCase())) ?? failIdentity(path, key, embedded)
  return {
    cid: identity('CID'),
    parentCid: identity('parentCID'),
    createType: createType ?? '',
    parentName: keys.get('parentfilenamehint'),
    extents,
    ddb,
  }
}

/** QEMU says no more than that; extents of a split image have no descriptor where others have one. */
function failIdentity(path: string, field: string, embedded: boolean): never {
  throw new MoraineError('invalid', `Could not open '${path}': Invalid argument`, {
    path,
    format: 'vmdk',
    field,
    rule: 'a hexadecimal number of 32 bits',
    hint: embedded
      ? 'A file that is a part of an image is opened through the descriptor file that names it.'
      : undefined,
  })
}

/** The text of a descriptor, up to the first NUL, by the encoding that it names itself. */
function textOf(bytes: Uint8Array): string {
  const nul = bytes.indexOf(0)
  const text = nul < 0 ? bytes : bytes.subarray(0, nul)
  const plain = latin1(text)
  const encoding = /^[ \t]*encoding[ \t]*=[ \t]*"?([\w-]+)/im.exec(plain)?.[1] ?? 'utf-8'
  try {
    return new TextDecoder(encoding).decode(text)
  } catch {
    // An encoding that nobody knows: names in ASCII still come out right.
    return plain
  }
}

/** Identities are hexadecimal, QEMU writes them without leading zeros. */
function parseCid(text: string | undefined): number | undefined {
  const match = /^(?:0x)?([0-9a-f]{1,8})$/i.exec(text ?? '')
  return match?.[1] === undefined ? undefined : Number.parseInt(match[1], 16)
}

function unquote(value: string): string {
  const text = value.trim()
  return text.length >= 2 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text
}

/** An extent line: access, sectors, type, name in quotes, offset; a device may follow. Undefined when it is none. */
function parseExtent(line: string): ExtentLine | undefined {
  const match = /^(\w+)\s+(\d{1,19})\s+(\w+)(?:\s+"([^"]*)"(?:\s+(\d{1,19}))?(?:\s.*)?)?$/.exec(line)
  if (match === null) return undefined
  const [, accessWord = '', count = '', typeWord = '', name, start] = match
  const access = accessWord.toUpperCase() as Access
  const type = typeWord.toUpperCase()
  const sectors = Number(count)
  const offset = Number(start ?? '0')
  if (!types.has(type) || sectors === 0) return undefined
  if (!Number.isSafeInteger(sectors * 512) || !Number.isSafeInteger(offset * 512)) return undefined
  if (type === 'ZERO') return { access, sectors, type, name: undefined, offset: 0 }
  // A part that nobody may touch needs no file.
  if (name === undefined) return access === 'NOACCESS' ? { access, sectors, type, name, offset } : undefined
  if (name === '' || (type === 'FLAT' && start === undefined)) return undefined
  return { access, sectors, type, name, offset }
}

/** What a new descriptor says. */
export interface NewDescriptor {
  cid: number
  parentCid: number
  createType: string
  parentName: string | undefined
  extents: readonly { access?: Access; sectors: number; type: 'FLAT' | 'SPARSE' | 'VMFS'; name: string }[]
  hardwareVersion: string
  adapterType: string
  toolsVersion: string
  thin: boolean
  /** Guest bytes. */
  size: number
}

/** The text of a new descriptor; QEMU's template, so that files compare. */
export function writeDescriptor(descriptor: NewDescriptor): Uint8Array {
  const heads = descriptor.adapterType === 'ide' ? 16 : 255
  const cylinders = Math.floor(descriptor.size / (63 * heads * 512))
  const parent = descriptor.parentName === undefined ? '' : `parentFileNameHint="${descriptor.parentName}"`
  const lines = descriptor.extents.map(
    ({ access = 'RW', sectors, type, name }) =>
      `${access} ${sectors} ${type} "${name}"${type === 'FLAT' ? ' 0' : ''}\n`,
  )
  return new TextEncoder().encode(
    '# Disk DescriptorFile\n' +
      'version=1\n' +
      `CID=${cidText(descriptor.cid)}\n` +
      `parentCID=${cidText(descriptor.parentCid)}\n` +
      `createType="${descriptor.createType}"\n` +
      `${parent}\n` +
      '# Extent description\n' +
      `${lines.join('')}` +
      '\n# The Disk Data Base\n' +
      '#DDB\n\n' +
      `ddb.virtualHWVersion = "${descriptor.hardwareVersion}"\n` +
      `ddb.geometry.cylinders = "${cylinders}"\n` +
      `ddb.geometry.heads = "${heads}"\n` +
      'ddb.geometry.sectors = "63"\n' +
      `ddb.adapterType = "${descriptor.adapterType}"\n` +
      `ddb.toolsVersion = "${descriptor.toolsVersion}"\n` +
      (descriptor.thin ? 'ddb.thinProvisioned = "1"\n' : ''),
  )
}

function cidText(cid: number): string {
  return cid.toString(16).padStart(8, '0')
}

/** A content identity for new content. Neither of the values that mean something else. */
export function newCid(): number {
  for (;;) {
    const cid = Math.floor(Math.random() * 0x1_0000_0000)
    if (cid < 0xffff_fffe && cid !== 0) return cid
  }
}

/** The bytes of a descriptor with another content identity, its own or that of the parent, else as they were. Undefined when there is none to replace. */
export function replaceCid(bytes: Uint8Array, cid: number, key: 'CID' | 'parentCID' = 'CID'): Uint8Array | undefined {
  const nul = bytes.indexOf(0)
  const text = latin1(bytes, 0, nul < 0 ? bytes.length : nul)
  const match = new RegExp(`^([ \\t]*${key}[ \\t]*=[ \\t]*"?(?:0x)?)([0-9a-f]{1,8})(?![0-9a-f])`, 'im').exec(text)
  if (match === null) return undefined
  const start = match.index + (match[1] ?? '').length
  const old = (match[2] ?? '').length
  const length = nul < 0 ? bytes.length : nul
  const changed = new Uint8Array(length - old + 8)
  changed.set(bytes.subarray(0, start))
  changed.set(new TextEncoder().encode(cidText(cid)), start)
  changed.set(bytes.subarray(start + old, length), start + 8)
  return changed
}

/** The bytes of a descriptor of one extent with another size in bytes, in the extent's line and in the cylinders; else as they were. Readers look for the comments, too. */
export function replaceSize(bytes: Uint8Array, size: number): Uint8Array {
  const nul = bytes.indexOf(0)
  // Not by a decoder: what platforms call Latin-1 is Windows' code page 1252, and bytes in UTF-8 would not come back as they were.
  const old = latin1(bytes, 0, nul < 0 ? bytes.length : nul)
  const number = (key: string): number => {
    const found = new RegExp(`^[ \\t]*ddb\\.geometry\\.${key}[ \\t]*=[ \\t]*"?(\\d+)`, 'im').exec(old)?.[1]
    return Number(found ?? 0)
  }
  const track = number('heads') * number('sectors') * 512
  let text = old.replace(/^([ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+)\d+/im, (_line, before) => `${before}${size / 512}`)
  if (track > 0) {
    const cylinders = Math.floor(size / track)
    text = text.replace(
      /^([ \t]*ddb\.geometry\.cylinders[ \t]*=[ \t]*"?)\d+/im,
      (_line, before) => `${before}${cylinders}`,
    )
  }
  // A file keeps its length: it is not cut before others have what they need.
  const padded = nul < 0 ? text.padEnd(old.length, '\n') : text
  const changed = new Uint8Array(padded.length)
  for (let i = 0; i < padded.length; i++) changed[i] = padded.charCodeAt(i)
  return changed
}
