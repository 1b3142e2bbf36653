/** Which pieces of a source are packed units that a worker can decode from an open file. */
import type { PackedUnit } from '../core/index.ts'
import { type UnpackInput, unpackNumbers } from '../platform/worker-pool.ts'
import type { Segment } from './segments.ts'

/** What a task `unpack` is asked, but for where the result goes. */
export type UnitReadings = Omit<UnpackInput, 'to'>

/** The packed unit that a piece lies in, when it lies in one and that in an open file. */
export function packedUnitOf(segment: Segment): (PackedUnit & { descriptor: number; size: number }) | undefined {
  const { extent } = segment
  const { packed } = extent
  if (packed === undefined || segment.kind !== 'data' || segment.parts !== undefined) return undefined
  if (segment.offset + segment.length > extent.offset + extent.length) return undefined
  const { descriptor } = packed.source
  return descriptor === undefined ? undefined : { ...packed, descriptor }
}

/** Whether the units of two pieces can be decoded by one task. */
export function decodeTogether(a: Segment, b: Segment): boolean {
  const x = a.extent.packed
  const y = b.extent.packed
  return x !== undefined && y !== undefined && x.source === y.source && x.codec === y.codec && x.size === y.size
}

/** The readings of a list of pieces, whose decoded bytes go where `place` says. Undefined when not all of them are units of one file and one kind. */
export function unitReadings(
  segments: readonly Segment[],
  place: (segment: Segment, index: number) => number,
): UnitReadings | undefined {
  const [first] = segments
  const unit = first === undefined ? undefined : packedUnitOf(first)
  if (first === undefined || unit === undefined) return undefined
  const units = new Float64Array(segments.length * unpackNumbers)
  for (const [index, segment] of segments.entries()) {
    if (!decodeTogether(first, segment) || !addReading(units, index, segment, place(segment, index))) return undefined
  }
  return { codec: unit.codec, source: unit.descriptor, sourceName: unit.source.name, units, unitBytes: unit.size }
}

function addReading(units: Float64Array, index: number, segment: Segment, to: number): boolean {
  const { packed, offset } = segment.extent
  if (packed === undefined || packedUnitOf(segment) === undefined) return false
  units.set(
    [packed.offset, packed.length, to, packed.skip + segment.offset - offset, segment.length],
    index * unpackNumbers,
  )
  return true
}
