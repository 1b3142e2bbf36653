/** The directory of a zip: which members there are and where their bytes lie. Only the directory is read; unpacking is the codecs'. Facts: PKWARE's APPNOTE 6.3.10,
 *  sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (end records), 4.5.3 (zip64). */
import { u64le, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type Limits, MoraineError } from '../../core/index.ts'

/** One file in a zip. */
export interface ZipMember {
  name: string
  /** 0 stored, 8 deflated; others are named by their number. */
  method: number
  encrypted: boolean
  /** Bytes in the zip. */
  packedSize: number
  /** Bytes of the file. */
  size: number
  checksum: number
  /** Byte offset of its local header. */
  header: number
}

const endBytes = 22
const mostComment = 0xffff
const locatorBytes = 20
const mostMembers = 65_536

function damaged(source: ByteSource, what: string, offset?: number): MoraineError {
  return new MoraineError('corrupt', `the zip is damaged: ${what}`, { path: source.name, offset })
}

/** The files of a zip, folders left out, by its central directory.
 *  @throws MoraineError `corrupt`, `limit`, `unsupported` for one in several volumes. */
export async function readZipMembers(source: ByteSource, limits: Limits, signal?: AbortSignal): Promise<ZipMember[]> {
  const { count, size, offset } = await readEnd(source, signal)
  if (offset + size > source.size) throw damaged(source, 'its directory passes its end', offset)
  if (size > limits.tableBytes || count > mostMembers) {
    throw new MoraineError('limit', 'the directory of the zip is too large', {
      path: source.name,
      field: 'members',
      value: count,
      rule: `at most ${mostMembers} in ${limits.tableBytes} bytes`,
    })
  }
  const directory = new Uint8Array(size)
  await source.read(offset, directory, signal)
  const members: ZipMember[] = []
  let at = 0
  for (let i = 0; i < count; i++) {
    if (at + 46 > size || viewOf(directory).getUint32(at, true) !== 0x02014b50)
      throw damaged(source, 'its directory has no sense', offset + at)
    const view = viewOf(directory.subarray(at))
    const lengths = [28, 30, 32].map((field) => view.getUint16(field, true)) as [number, number, number]
    const end = at + 46 + lengths[0] + lengths[1] + lengths[2]
    if (end > size) throw damaged(source, 'its directory ends early', offset + at)
    const name = new TextDecoder().decode(directory.subarray(at + 46, at + 46 + lengths[0]))
    const extra = directory.subarray(at + 46 + lengths[0], at + 46 + lengths[0] + lengths[1])
    const wide = readWide(extra, [view.getUint32(24, true), view.getUint32(20, true), view.getUint32(42, true)])
    if (wide === undefined) throw damaged(source, 'a member has no size', offset + at)
    if (!name.endsWith('/')) {
      members.push({
        name,
        method: view.getUint16(10, true),
        encrypted: (view.getUint16(8, true) & 1) !== 0,
        checksum: view.getUint32(16, true),
        size: wide[0],
        packedSize: wide[1],
        header: wide[2],
      })
    }
    at = end
  }
  return members
}

/** Sizes and place, from the zip64 extra field where 32 bits do not do. */
function readWide(
  extra: Uint8Array,
  values: [size: number, packedSize: number, header: number],
): [number, number, number] | undefined {
  if (values.every((value) => value !== 0xffff_ffff)) return values
  for (let at = 0; at + 4 <= extra.length; ) {
    const view = viewOf(extra.subarray(at))
    const length = view.getUint16(2, true)
    if (view.getUint16(0, true) === 1) {
      let field = 4
      const wide = values.map((value) => {
        if (value !== 0xffff_ffff) return value
        field += 8
        return field <= 4 + length && at + field <= extra.length ? u64le(view, field - 8) : Number.POSITIVE_INFINITY
      })
      return wide.every(Number.isSafeInteger) ? (wide as [number, number, number]) : undefined
    }
    at += 4 + length
  }
  return undefined
}

async function readEnd(
  source: ByteSource,
  signal: AbortSignal | undefined,
): Promise<{ count: number; size: number; offset: number }> {
  const tail = new Uint8Array(Math.min(source.size, endBytes + mostComment))
  const start = source.size - tail.length
  await source.read(start, tail, signal)
  const view = viewOf(tail)
  for (let at = tail.length - endBytes; at >= 0; at--) {
    if (view.getUint32(at, true) !== 0x06054b50) continue
    if (at + endBytes + view.getUint16(at + 20, true) !== tail.length) continue
    const found = {
      count: view.getUint16(at + 10, true),
      size: view.getUint32(at + 12, true),
      offset: view.getUint32(at + 16, true),
    }
    const wide = await readWideEnd(source, start + at, signal)
    if (wide !== undefined) return wide
    if (view.getUint16(at + 4, true) !== 0 || view.getUint16(at + 8, true) !== found.count) {
      throw new MoraineError('unsupported', 'a zip in several volumes cannot be read', { path: source.name })
    }
    return found
  }
  throw damaged(source, 'it ends early, or something else follows its end', source.size)
}

/** The zip64 end record, by its locator before the plain one. */
async function readWideEnd(
  source: ByteSource,
  end: number,
  signal: AbortSignal | undefined,
): Promise<{ count: number; size: number; offset: number } | undefined> {
  if (end < locatorBytes) return undefined
  const locator = new Uint8Array(locatorBytes)
  await source.read(end - locatorBytes, locator, signal)
  if (viewOf(locator).getUint32(0, true) !== 0x07064b50) return undefined
  const at = u64le(viewOf(locator), 8)
  const record = new Uint8Array(56)
  if (!(at + record.length <= end)) throw damaged(source, 'its end has no sense', end - locatorBytes)
  await source.read(at, record, signal)
  const view = viewOf(record)
  if (view.getUint32(0, true) !== 0x06064b50) throw damaged(source, 'its end has no sense', at)
  const found = { count: u64le(view, 32), size: u64le(view, 40), offset: u64le(view, 48) }
  if (!Number.isSafeInteger(found.offset + found.size)) throw damaged(source, 'its end has no sense', at)
  return found
}

/** The member of that name, or the only one. A name may go on behind a `#`, for what is in that member.
 *  @throws MoraineError `missing`; `invalid` where there are several and none is named, with their names. */
export function chooseMember(source: ByteSource, members: readonly ZipMember[], name: string | undefined): ZipMember {
  const names = members.slice(0, 20).map((member) => `'${member.name}'`)
  const list = `${names.join(', ')}${members.length > names.length ? ', …' : ''}`
  const place = { path: source.name, field: 'member' }
  if (name !== undefined) {
    const found =
      members.find((member) => member.name === name) ?? members.find((member) => name.startsWith(`${member.name}#`))
    if (found !== undefined) return found
    throw new MoraineError('missing', `the zip has no member '${name}'`, {
      ...place,
      hint: `It has ${list || 'none'}.`,
    })
  }
  const [only] = members
  if (only === undefined) throw new MoraineError('invalid', 'the zip holds no file', place)
  if (members.length === 1) return only
  throw new MoraineError('invalid', `the zip holds ${members.length} files, of which one must be named`, {
    ...place,
    hint: `It has ${list}. Name one as FILE#MEMBER.`,
  })
}

/** Where the packed bytes of a member begin: behind its local header, whose name and extra field may differ from the directory's.
 *  @throws MoraineError `corrupt`, `unsupported`. */
export async function memberOffset(source: ByteSource, member: ZipMember, signal?: AbortSignal): Promise<number> {
  const refuse = (what: string) =>
    new MoraineError('unsupported', `the member '${member.name}' ${what}`, { path: source.name })
  if (member.encrypted) throw refuse('is encrypted')
  if (member.method !== 0 && member.method !== 8)
    throw refuse(`is packed by method ${member.method}, which is not known here`)
  const header = new Uint8Array(30)
  if (member.header + header.length > source.size) throw damaged(source, 'a member passes its end', member.header)
  await source.read(member.header, header, signal)
  const view = viewOf(header)
  const start = member.header + header.length + view.getUint16(26, true) + view.getUint16(28, true)
  if (view.getUint32(0, true) !== 0x04034b50) throw damaged(source, 'a member has no header', member.header)
  if (start + member.packedSize > source.size) throw damaged(source, 'a member passes its end', member.header)
  if (member.method === 0 && member.packedSize !== member.size)
    throw damaged(source, 'a stored member has two sizes', member.header)
  return start
}
