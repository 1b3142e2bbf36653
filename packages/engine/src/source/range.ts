/** Checks that every source makes of a range before it touches a byte. */
import { type ByteSource, type Extent, MoraineError } from '../core/index.ts'

/** Throws unless `[offset, offset + length)` lies within `size` bytes.
 *  @throws MoraineError `invalid` when the numbers are no range, `io` when it passes the end, `cancelled`. */
export function checkRange(
  name: string,
  size: number,
  offset: number,
  length: number,
  signal?: AbortSignal | undefined,
): void {
  if (signal?.aborted) {
    throw new MoraineError('cancelled', 'the operation was cancelled', { path: name, cause: signal.reason })
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0) {
    throw new MoraineError('invalid', 'Invalid argument', { path: name, field: 'offset', value: offset })
  }
  if (offset + length > size) {
    throw new MoraineError('io', 'the read passes the end of the file', {
      path: name,
      offset,
      code: 'EIO',
      rule: `offset + length at most ${size}`,
    })
  }
}

/** The extents of a source that cannot tell: data, all of it.
 *  @throws MoraineError as `checkRange`. */
export async function* allData(
  source: Pick<ByteSource, 'name' | 'size'>,
  offset: number,
  length: number,
  signal?: AbortSignal | undefined,
): AsyncIterable<Extent[]> {
  checkRange(source.name, source.size, offset, length, signal)
  if (length > 0) yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
}
