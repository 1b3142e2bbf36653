/** The layout of a new sparse extent, as `qemu-img create` 7.2 makes it: header, descriptor, redundant directory and tables, directory and tables, grains. */
import { divideUp, roundUp, viewOf } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import { descriptorSector, descriptorSectors, flags, newShape, type SparseHeader, sectorBytes } from './layout.ts'

const chunkBytes = 1024 * 1024

/** Sectors of one grain table. */
const tableSectors = (newShape.tableEntries * 4) / sectorBytes

/** Bytes of a grain of a new image. */
export const newGrainBytes = newShape.grainSectors * sectorBytes

/** Where everything is in a new extent. Sectors. */
export interface NewExtent {
  header: SparseHeader
  tables: number
  directorySectors: number
}

/** Lays out an extent for so many guest bytes (whole sectors).
 *  @throws MoraineError `limit` for a size whose grains cannot be counted in 32 bits, as QEMU does. */
export function layOut(size: number, kind: { compressed: boolean; zeroedGrains: boolean }): NewExtent {
  const capacity = divideUp(size, sectorBytes)
  const grains = divideUp(capacity, newShape.grainSectors)
  const tables = divideUp(grains, newShape.tableEntries)
  const directorySectors = divideUp(tables * 4, sectorBytes)
  const redundantDirectory = descriptorSector + descriptorSectors
  const directory = redundantDirectory + directorySectors + tables * tableSectors
  const end = directory + directorySectors + tables * tableSectors
  if (end >= 2 ** 32) {
    throw new MoraineError('limit', "The image size is too large for file format 'vmdk'", {
      format: 'vmdk',
      field: 'size',
      value: size,
      rule: 'tables within the first 2 TiB of the file',
    })
  }
  return {
    tables,
    directorySectors,
    header: {
      version: kind.compressed ? 3 : kind.zeroedGrains ? 2 : 1,
      flags:
        flags.newlines |
        flags.redundant |
        (kind.zeroedGrains ? flags.zeroedGrains : 0) |
        (kind.compressed ? flags.compressed | flags.markers : 0),
      capacity,
      grainSectors: newShape.grainSectors,
      descriptorSector,
      descriptorSectors,
      tableEntries: newShape.tableEntries,
      redundantDirectory,
      directory,
      overhead: roundUp(end, newShape.grainSectors),
      compression: kind.compressed ? 1 : 0,
    },
  }
}

/** A grain directory whose tables stand side by side behind it, in chunks, up to the end of its last sector. `directory` is its sector. */
export function* directoryChunks({ tables, directorySectors }: NewExtent, directory: number): Iterable<Uint8Array> {
  const length = directorySectors * sectorBytes
  const first = directory + directorySectors
  for (let start = 0; start < length; start += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, length - start))
    const view = viewOf(chunk)
    const count = Math.min(chunk.length / 4, tables - start / 4)
    for (let i = 0; i < count; i++) view.setUint32(i * 4, first + (start / 4 + i) * tableSectors, true)
    yield chunk
  }
}
