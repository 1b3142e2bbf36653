/** The tar archive in a bundle, front to back: its only member becomes the image, holes as holes. */
import type { ByteFeed } from '../../bytes/byte-feed.ts'
import { roundUp } from '../../bytes/integers.ts'
import { isZero } from '../../bytes/zero.ts'
import { type ByteStore, MoraineError } from '../../core/index.ts'
import {
  isTarHeader,
  readPaxRecords,
  readSparseBlock,
  readTarHeader,
  type TarHeader,
  type TarRun,
  tarBlock,
} from '../tar/header.ts'

const mostExtendedBytes = 1024 * 1024
const mostRuns = 4_000_000
/** The least stretch of zeros that is left out, in bytes of the image. */
const holeBytes = 64 * 1024

function wrong(reason: string, place: { field?: string; value?: string | number; rule?: string } = {}): MoraineError {
  return new MoraineError('corrupt', `the archive in the bundle is not valid: ${reason}`, place)
}

async function block(feed: ByteFeed): Promise<Uint8Array> {
  const bytes = await feed.take(tarBlock)
  if (bytes.length === tarBlock) return bytes.slice()
  throw wrong('it ends early')
}

/** Unpacks the only member of an archive into `target`, which is empty, up to the end of the archive.
 *  @param size bytes that the image must have
 *  @throws MoraineError `corrupt`. */
export async function unpackTarImage(
  feed: ByteFeed,
  target: ByteStore,
  size: number,
  onBytes: (position: number) => void,
): Promise<void> {
  const { header, pax } = await readMemberHeader(feed)
  const member = await layOut(feed, header, pax)
  if (member.size !== size)
    throw wrong('its image has another size', {
      field: 'size',
      value: member.size,
      rule: `${size}, as the manifest says`,
    })
  if (target.kind !== 'device') await target.resize(0)
  let position = 0
  let stored = member.mapBytes
  for (const { offset, length } of member.runs) {
    if (offset < position || offset + length > size) {
      throw wrong('a piece of the image lies outside of it', {
        field: 'offset',
        value: offset,
        rule: `${position} to ${size}`,
      })
    }
    await clear(target, position, offset)
    await copyRun(feed, target, offset, length, onBytes)
    position = offset + length
    stored += length
  }
  if (stored !== header.size)
    throw wrong('its pieces are not what it stores', { field: 'bytes', value: stored, rule: `${header.size}` })
  await clear(target, position, size)
  if (target.kind !== 'device') await target.resize(size)
  if (!(await feed.skip(roundUp(header.size, tarBlock) - header.size))) throw wrong('it ends early')
  await readEnd(feed)
}

/** The header of the first member, with the extended headers before it. */
async function readMemberHeader(feed: ByteFeed): Promise<{ header: TarHeader; pax: ReadonlyMap<string, string> }> {
  const pax = new Map<string, string>()
  for (let count = 0; count < 16; count++) {
    const bytes = await block(feed)
    if (!isTarHeader(bytes)) throw wrong('a header is damaged', { field: 'checksum' })
    const header = readTarHeader(bytes)
    if ('xgLK'.includes(header.type)) {
      if (header.size > mostExtendedBytes)
        throw wrong('an extended header is too large', {
          field: 'size',
          value: header.size,
          rule: `at most ${mostExtendedBytes}`,
        })
      const content = (await feed.take(roundUp(header.size, tarBlock))).slice(0, header.size)
      if (content.length < header.size) throw wrong('it ends early')
      if (header.type === 'x' || header.type === 'g')
        for (const [key, value] of readPaxRecords(content)) pax.set(key, value)
      continue
    }
    if (header.type !== '0' && header.type !== '7' && header.type !== 'S') {
      throw wrong('its first member is no file', { field: 'type', value: header.type })
    }
    const paxSize = Number(pax.get('size') ?? header.size)
    if (!Number.isSafeInteger(paxSize) || paxSize < 0) throw wrong('a size is no number', { field: 'size' })
    return { header: { ...header, size: paxSize }, pax }
  }
  throw wrong('it has too many extended headers')
}

/** Where the stored bytes belong. */
async function layOut(
  feed: ByteFeed,
  header: TarHeader,
  pax: ReadonlyMap<string, string>,
): Promise<{ size: number; runs: TarRun[]; mapBytes: number }> {
  if (header.sparse !== undefined) {
    const runs = [...header.sparse.runs]
    for (let { more } = header.sparse; more; ) {
      const further = readSparseBlock(await block(feed))
      runs.push(...further.runs)
      more = further.more
      if (runs.length > mostRuns)
        throw wrong('it has too many pieces', { field: 'pieces', value: runs.length, rule: `at most ${mostRuns}` })
    }
    return { size: header.sparse.size, runs: runs.filter(({ length }) => length > 0), mapBytes: 0 }
  }
  if (pax.get('GNU.sparse.major') === '1') return await readPaxMap(feed, pax)
  if ([...pax.keys()].some((key) => key.startsWith('GNU.sparse.'))) {
    throw new MoraineError('unsupported', 'the archive in the bundle has holes in an old form of pax', {
      field: 'GNU.sparse',
      rule: 'version 1.0, or the old GNU kind',
    })
  }
  return { size: header.size, runs: header.size === 0 ? [] : [{ offset: 0, length: header.size }], mapBytes: 0 }
}

/** The map before the content of a sparse file: numbers in lines, filled up to whole blocks. */
async function readPaxMap(
  feed: ByteFeed,
  pax: ReadonlyMap<string, string>,
): Promise<{ size: number; runs: TarRun[]; mapBytes: number }> {
  const size = Number(pax.get('GNU.sparse.realsize'))
  let text = ''
  let mapBytes = 0
  const numbers: number[] = []
  const next = async (): Promise<number> => {
    for (;;) {
      const end = text.indexOf('\n')
      if (end >= 0) {
        const line = text.slice(0, end)
        text = text.slice(end + 1)
        if (!/^\d{1,16}$/.test(line))
          throw wrong('its map has something else than numbers', { field: 'map', value: line.slice(0, 40) })
        return Number(line)
      }
      text += String.fromCharCode(...(await block(feed)))
      mapBytes += tarBlock
    }
  }
  const count = await next()
  if (count > mostRuns)
    throw wrong('it has too many pieces', { field: 'pieces', value: count, rule: `at most ${mostRuns}` })
  for (let index = 0; index < count * 2; index++) numbers.push(await next())
  const runs: TarRun[] = []
  for (let index = 0; index < numbers.length; index += 2) {
    const [offset, length] = numbers.slice(index, index + 2) as [number, number]
    if (length > 0) runs.push({ offset, length })
  }
  return { size, runs, mapBytes }
}

async function clear(target: ByteStore, start: number, end: number): Promise<void> {
  // What is new in a file reads as zeros.
  if (target.kind === 'device' && end > start) await target.zero(start, end - start, 'unmap')
}

async function copyRun(
  feed: ByteFeed,
  target: ByteStore,
  offset: number,
  length: number,
  onBytes: (position: number) => void,
): Promise<void> {
  for (let at = offset; at < offset + length; ) {
    // Stretches of the image, so that holes fall on whole blocks.
    const wanted = Math.min(holeBytes - (at % holeBytes), offset + length - at)
    const bytes = await feed.take(wanted)
    if (bytes.length < wanted) throw wrong('it ends early')
    if (isZero(bytes)) await clear(target, at, at + wanted)
    else await target.write(at, bytes)
    at += wanted
    onBytes(at)
  }
}

/** Zeros up to the end: an archive in a bundle has one member. */
async function readEnd(feed: ByteFeed): Promise<void> {
  let zeros = 0
  for (let piece = await feed.next(); piece !== undefined; piece = await feed.next()) {
    if (!isZero(piece)) throw wrong('something follows its only member')
    zeros += piece.length
  }
  if (zeros % tarBlock !== 0) throw wrong('it ends early')
}
