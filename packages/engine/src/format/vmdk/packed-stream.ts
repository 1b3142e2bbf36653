/** A streamOptimized VMDK written front to back, in one pass: header, descriptor, compressed grains in guest order, each table behind its grains, the directory, the
 *  footer. The order and the markers are VMware's (`Virtual Disk Format 5.0`, "Stream-Optimized Compressed Sparse Extents"): what ESXi, VirtualBox and importers take. */
import type { ChunkQueue } from '../../bytes/chunk-queue.ts'
import { roundUp, viewOf } from '../../bytes/integers.ts'
import type { PackedStream } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { PackedTarget, packedStream } from '../packed-target.ts'
import { encodeMarker, encodeSparseHeader, flags, markers, newShape, type SparseHeader, sectorBytes } from './layout.ts'
import { layOut, newGrainBytes } from './new-extent.ts'
import type { VmdkPlan } from './options.ts'
import { storedZlib, writeGrain } from './packed-grains.ts'
import { streamDescriptor, streamOptions } from './stream.ts'

/** Importers place a disk on a SCSI controller unless told otherwise, and refuse one that says `ide` there. */
const usualAdapter = 'lsilogic'

/** Plans a stream of a disk of `size` bytes; undefined where the options ask for another subformat.
 *  @throws MoraineError as `streamOptions`. */
export function streamPackedVmdk(size: number, options: OptionValues): (() => Promise<PackedStream>) | undefined {
  const plan = streamOptions({ adapter_type: usualAdapter, ...options })
  if (!plan.compressed) return undefined
  // The same bound as for a file.
  layOut(size, plan)
  return async () => packedStream((queue) => new StreamTarget(size, plan, queue))
}

/** Grains, a table behind each stretch of them, the directory, the footer. */
class StreamTarget extends PackedTarget {
  readonly #plan: VmdkPlan
  readonly #header: SparseHeader
  readonly #directory: Uint32Array
  #table = new Uint8Array(newShape.tableEntries * 4)
  #tableIndex = -1
  #grain = new Uint8Array(2 * newGrainBytes)

  constructor(size: number, plan: VmdkPlan, queue: ChunkQueue) {
    super({ format: 'vmdk', size, unit: newGrainBytes, codec: 'zlib' }, queue)
    this.#plan = plan
    const { header, tables } = layOut(size, plan)
    this.#directory = new Uint32Array(tables)
    this.#header = {
      ...header,
      flags: flags.newlines | flags.compressed | flags.markers,
      redundantDirectory: 0,
      directory: 'atEnd',
      overhead: newShape.grainSectors,
    }
  }

  protected async begin(): Promise<void> {
    const head = new Uint8Array(this.#header.overhead * sectorBytes)
    head.set(encodeSparseHeader(this.#header))
    head.set(streamDescriptor(this.#plan, this.size, 'RDONLY'), sectorBytes)
    await this.append(head)
  }

  protected async place(offset: number, bytes: Uint8Array, packed: boolean): Promise<void> {
    const content = packed ? bytes : storedZlib(bytes)
    const grain = offset / newGrainBytes
    const index = Math.floor(grain / newShape.tableEntries)
    if (index !== this.#tableIndex) await this.#endTable(index)
    const sector = this.length / sectorBytes
    const length = roundUp(12 + content.length, sectorBytes)
    if (sector + length / sectorBytes > 2 ** 32) {
      throw this.fault('limit', 'the extent is full: its tables cannot point past 2 TiB', offset)
    }
    viewOf(this.#table).setUint32((grain % newShape.tableEntries) * 4, sector, true)
    const place = this.#grain.subarray(0, length).fill(0)
    writeGrain(place, offset / sectorBytes, content)
    await this.append(place)
  }

  protected async end(): Promise<void> {
    await this.#endTable(-1)
    const directory = new Uint8Array(roundUp(this.#directory.length * 4, sectorBytes))
    const view = viewOf(directory)
    for (const [i, sector] of this.#directory.entries()) view.setUint32(i * 4, sector, true)
    await this.append(encodeMarker(markers.grainDirectory, directory.length / sectorBytes))
    const at = this.length / sectorBytes
    await this.append(directory)
    await this.append(encodeMarker(markers.footer, 1))
    await this.append(encodeSparseHeader({ ...this.#header, directory: at }))
    await this.append(new Uint8Array(sectorBytes))
  }

  /** Writes the table of the grains so far, and begins another. */
  async #endTable(next: number): Promise<void> {
    const index = this.#tableIndex
    this.#tableIndex = next
    if (index < 0) return
    await this.append(encodeMarker(markers.grainTable, this.#table.length / sectorBytes))
    this.#directory[index] = this.length / sectorBytes
    await this.append(this.#table)
    this.#table.fill(0)
  }
}
