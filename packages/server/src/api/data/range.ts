/** The Range header of a download. */
import { HttpError } from '../http-error.ts'

/** Bytes from `start` up to and without `end`. */
export interface ByteRange {
  start: number
  end: number
}

/** One range of a resource of `size` bytes; undefined when all of it is wanted. `Content-Range` in a request is an old habit of clients, taken as Glance takes it.
 *  @throws HttpError 400 for several ranges, 416 for one that cannot be. */
export function readRange(
  headers: { range?: string | undefined; 'content-range'?: string | undefined },
  size: number,
): ByteRange | undefined {
  if (headers.range !== undefined) return fromRange(headers.range, size)
  const written = headers['content-range']
  if (written === undefined) return undefined
  const match = /^bytes\s+(\d+)-(\d+)\/(\d+|\*)$/i.exec(written.trim())
  const start = Number(match?.[1])
  const end = Number(match?.[2]) + 1
  const length = match?.[3] === '*' ? undefined : Number(match?.[3])
  if (match === null || start >= end || (length !== undefined && end > length)) {
    throw unsatisfiable('Invalid Content-Range header.', size)
  }
  if (length === undefined && end > size) {
    const rule = `The stop position MUST be in the inclusive range [0, ${size - 1}].`
    throw unsatisfiable(`Invalid stop position in Content-Range header. ${rule}`, size)
  }
  checkStart(start, size, 'Content-Range')
  return { start, end: Math.min(end, size) }
}

function fromRange(written: string, size: number): ByteRange {
  if (written.includes(',')) {
    throw new HttpError(
      400,
      'Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests instead.',
    )
  }
  const [match, first = '', last = ''] = /^bytes *= *(\d*) *- *(\d*)$/i.exec(written.trim()) ?? []
  if (match === undefined || (first === '' && (last === '' || Number(last) === 0))) {
    throw unsatisfiable('Invalid Range header.', size)
  }
  if (first === '') {
    checkStart(0, size, 'Range')
    return { start: Math.max(0, size - Number(last)), end: size }
  }
  const start = Number(first)
  const end = last === '' ? size : Math.min(Number(last) + 1, size)
  checkStart(start, size, 'Range')
  if (start >= end) throw unsatisfiable('Invalid Range header.', size)
  return { start, end }
}

function checkStart(start: number, size: number, header: string): void {
  if (start < size) return
  const rule = size === 0 ? 'The image is empty.' : `Start position MUST be in the inclusive range [0, ${size - 1}].`
  throw unsatisfiable(`Invalid start position in ${header} header. ${rule}`, size)
}

function unsatisfiable(detail: string, size: number): HttpError {
  return new HttpError(416, undefined, { detail, headers: { 'Content-Range': `bytes */${size}` } })
}
