/** The path tables: all directories of a tree in a list, twice. They are compared with the tree, and not used to find files. Facts: ECMA-119 4th edition, section 9.4. */
import { viewOf } from '../../bytes/integers.ts'
import { throwIfCancelled } from '../../core/index.ts'
import type { VolumeDescriptor } from './descriptors.ts'
import type { VolumeReader } from './volume-reader.ts'

/** What a comparison found: a sentence for each fault. */
export interface PathTableReport {
  /** Directories in the table. */
  directories: number
  faults: string[]
}

const mostFaults = 10

/** Reads both tables of a tree and compares them with each other and with the places of the tree's directories (logical blocks).
 *  @throws MoraineError `io`. */
export async function checkPathTables(
  reader: VolumeReader,
  { pathTable, root, blockSize }: VolumeDescriptor,
  inTree: ReadonlySet<number>,
): Promise<PathTableReport> {
  const report: PathTableReport = { directories: 0, faults: [] }
  const { source, limits } = reader
  const { size } = pathTable
  const outside = [pathTable.little, pathTable.big].find((block) => block * blockSize + size > source.size)
  if (outside !== undefined || size > limits.tableBytes) {
    report.faults.push(
      `the path table of ${size} bytes at block ${outside ?? pathTable.little} lies outside the image or is too long`,
    )
    return report
  }
  const little = new Uint8Array(size)
  const big = new Uint8Array(size)
  await source.read(pathTable.little * blockSize, little, reader.signal)
  await source.read(pathTable.big * blockSize, big, reader.signal)
  const listed = new Set<number>()
  const fault = (text: string): void => {
    if (report.faults.length < mostFaults) report.faults.push(text)
  }
  for (let at = 0; at + 8 < size; ) {
    throwIfCancelled(reader.signal, source.name)
    const [view, other] = [viewOf(little), viewOf(big)]
    const nameLength = view.getUint8(at)
    const next = at + 8 + nameLength + (nameLength % 2)
    const number = report.directories + 1
    if (nameLength === 0 || next > size) {
      fault(`entry ${number} of the path table has a name of ${nameLength} bytes, ${size - at} bytes before its end`)
      break
    }
    const block = view.getUint32(at + 2, true)
    const parent = view.getUint16(at + 6, true)
    if (block !== other.getUint32(at + 2) || parent !== other.getUint16(at + 6)) {
      fault(`entry ${number} differs in the two path tables`)
    }
    if (parent === 0 || parent > Math.max(1, report.directories))
      fault(`entry ${number} of the path table has parent ${parent}`)
    if (number === 1 && block !== root.block)
      fault(`the path table has the root at block ${block}, the volume at ${root.block}`)
    if (!inTree.has(block))
      fault(`entry ${number} of the path table leads to block ${block}, where the tree has no directory`)
    listed.add(block)
    report.directories++
    at = next
  }
  for (const block of inTree) {
    if (!listed.has(block)) fault(`the directory at block ${block} is not in the path table`)
  }
  return report
}
