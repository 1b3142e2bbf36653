/** The task `pack`: units are packed in the buffer they came in, as none becomes longer. */
import { isZero } from '../../bytes/zero.ts'
import { MoraineError } from '../../core/index.ts'
import type { PackInput, PackOutput, PackSource } from '../worker-pool.ts'
import { packView } from './codecs.ts'
import { readFully } from './worker-files.ts'

/** Packs units as `PackInput` says.
 *  @throws MoraineError `io`, `invalid` for a buffer that is too small. */
export function packUnits({ codec, unitBytes, buffer, units, source, keepZeros }: PackInput): PackOutput {
  if (buffer.byteLength < units * unitBytes) throw new MoraineError('invalid', 'the buffer is smaller than its units')
  const bytes = new Uint8Array(buffer, 0, units * unitBytes)
  if (source !== undefined) readSegments(source, bytes)
  const lengths = new Int32Array(units)
  let filled = 0
  for (let unit = 0; unit < units; unit++) {
    const start = unit * unitBytes
    const content = bytes.subarray(start, start + unitBytes)
    if (keepZeros !== true && isZero(content)) continue
    const packed = packView(codec, content)
    if (packed.length >= unitBytes) {
      bytes.copyWithin(filled, start, start + unitBytes)
      filled += unitBytes
      lengths[unit] = -1
    } else {
      bytes.set(packed, filled)
      filled += packed.length
      lengths[unit] = packed.length
    }
  }
  return { buffer, lengths }
}

function readSegments({ descriptor, name, segments }: PackSource, into: Uint8Array): void {
  let at = 0
  for (let i = 0; i < segments.length; i += 2) {
    const offset = segments[i] as number
    const part = into.subarray(at, at + (segments[i + 1] as number))
    if (offset < 0) part.fill(0)
    else readFully(descriptor, name, offset, part)
    at += part.length
  }
  into.fill(0, at)
}
