/** How large an image gets, by the plan of a stream of it: what is written front to back and what is written to a file are laid out in other orders and take as many bytes. */
import { roundUp } from '../bytes/integers.ts'
import { type Disk, type Extent, MoraineError, throwIfCancelled } from '../core/index.ts'
import type { DiskFormat, Measure, MeasureRequest } from './format.ts'
import type { OptionValues } from './options.ts'

/** Bytes for the data of a source or an empty disk, and for a disk of that size all of which is data. `stream` is that of the format.
 *  @throws MoraineError `unsupported` over a backing file: what differs from it is not known before it is compared; and as `stream` does. */
export async function measureByStream(
  stream: NonNullable<DiskFormat['stream']>,
  { source, size, options, signal }: MeasureRequest,
  format: string,
): Promise<Measure> {
  refuseBacking(options, format)
  const lengthOf = async (disk: Disk): Promise<number> => {
    throwIfCancelled(signal, disk.name)
    const { length } = await stream(disk, options)
    if (length !== undefined) return length
    throw new MoraineError('unsupported', 'the size is not known before the data is compressed', { format })
  }
  const bytes = source?.size ?? roundUp(size, 512)
  return {
    required: await lengthOf(source ?? uniformDisk(bytes, false)),
    fullyAllocated: await lengthOf(uniformDisk(bytes, true)),
  }
}

/** @throws MoraineError `unsupported` where an image over a backing file is to be measured. */
export function refuseBacking({ backing_file: backing }: OptionValues, format: string): void {
  if (backing === undefined) return
  throw new MoraineError('unsupported', 'what differs from a backing file is not known before it is compared', {
    format,
    field: 'backing_file',
  })
}

/** A disk that is data everywhere, or nowhere. */
export function uniformDisk(size: number, data: boolean): Disk {
  const name = data ? 'full disk' : 'empty disk'
  const disk: Disk = {
    name,
    format: 'raw',
    size,
    get file() {
      return disk
    },
    info: () => ({ format: 'raw', virtualSize: size, snapshots: [] }),
    async read(_offset, into) {
      into.fill(0)
    },
    async *extents(offset: number, length: number): AsyncIterable<Extent[]> {
      if (length > 0) yield [{ offset, length, allocated: data, data, zero: !data, depth: 0 }]
    },
    close: async () => {},
  }
  return disk
}
