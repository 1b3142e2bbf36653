/** Creating, applying and deleting internal snapshots. Source: qcow2.txt, "Snapshots"; order of steps chosen so that a cut at any moment leaks at worst. */

import { setU64be, viewOf } from '../../bytes/integers.ts'
import { encodeName } from '../../bytes/name-text.ts'
import { type ErrorKind, isMoraineError, type SnapshotStore } from '../../core/index.ts'
import { findSnapshot } from './disk.ts'
import { fault, hasDataFile, L1Table, readL1 } from './image.ts'
import { bounds, field, incompatible } from './layout.ts'
import type { HostRange } from './refcounts.ts'
import { countTree } from './reference-tree.ts'
import { encodeSnapshotTable, type Snapshot, storedTableBytes } from './snapshot-table.ts'
import type { WritableQcow2Disk } from './writable-disk.ts'

/** Kinds of errors that are thrown before anything changed, or after it was taken back. */
const refusals: ReadonlySet<ErrorKind> = new Set(['limit', 'unsupported', 'invalid', 'missing'])

/** The snapshots of one writable image. */
export class Qcow2Snapshots implements SnapshotStore {
  readonly #disk: WritableQcow2Disk

  constructor(disk: WritableQcow2Disk) {
    this.#disk = disk
  }

  /** Takes a snapshot of the disk as it is now.
   *  @throws MoraineError `unsupported` with an external data file, `limit` when there are too many or a count is too narrow for one more. */
  async create(name: string, when?: { seconds: number; nanoseconds: number }): Promise<void> {
    const { image, writer } = this.#disk
    if (hasDataFile(image)) {
      throw fault(image, 'unsupported', 'snapshots are not possible with an external data file', 'data file', {
        code: 'ENOTSUP',
      })
    }
    if (image.snapshots.length >= bounds.snapshots) {
      throw fault(image, 'limit', 'File too large', 'nb_snapshots', { rule: `at most ${bounds.snapshots}` })
    }
    if (encodeName(name).length > 0xffff) {
      throw fault(image, 'invalid', 'the snapshot name is too long', 'snapshot name', { rule: 'at most 65535 bytes' })
    }
    await this.#change(async () => {
      const now = Date.now()
      const highest = image.snapshots.reduce((most, { id }) => Math.max(most, Number.parseInt(id, 10) || 0), 0)
      const snapshot: Snapshot = {
        l1Offset: 0,
        l1Size: image.l1.size,
        id: String(highest + 1),
        name,
        dateSeconds: when?.seconds ?? Math.floor(now / 1000),
        dateNanoseconds: when?.nanoseconds ?? (now % 1000) * 1_000_000,
        vmClockNanoseconds: 0n,
        vmStateSize: 0,
        diskSize: image.size,
        // qemu-img stores 0, not "none", and `info` shows it.
        icount: 0n,
        storedBytes: 0,
        unknownExtra: new Uint8Array(),
      }
      this.#encode([...image.snapshots, snapshot])
      const l1Bytes = Math.max(1, image.l1.bytes.length)
      snapshot.l1Offset = await writer.refcounts.allocate(l1Bytes)
      // A disk of no size has no table: the place of it is the next thing's, as in QEMU.
      if (image.l1.bytes.length === 0) await writer.abandon(snapshot.l1Offset, l1Bytes)
      // With the flags COPIED as they are, which mean nothing in a table that is not active.
      const taken = image.l1.bytes.slice()
      try {
        await countTree(writer, image.l1, 1)
      } catch (error) {
        // qemu-img leaks this copy of the L1 table.
        if (isMoraineError(error, 'limit')) await writer.abandon(snapshot.l1Offset, l1Bytes)
        throw error
      }
      await writer.writeBack()
      await writer.store.write(snapshot.l1Offset, taken)
      await this.#writeTable([...image.snapshots, snapshot])
    })
  }

  async apply(idOrName: string): Promise<void> {
    const { image, writer } = this.#disk
    const snapshot = findSnapshot(image, idOrName)
    await this.#change(async () => {
      const taken = await this.#tableOf(snapshot)
      const resized = snapshot.diskSize !== image.size
      if (resized && image.header.version < 3) {
        throw fault(image, 'unsupported', 'a version 2 image with snapshots cannot change its size', 'size')
      }
      // The tables of both are counted while the switch is under way; COPIED goes from those of the snapshot before they are active.
      await countTree(writer, taken, 1)
      await writer.growL1(taken.size)
      if (resized) await writer.writeSize(snapshot.diskSize)
      const before = new L1Table(image.l1.offset, image.l1.bytes.slice())
      await writer.writeBack()
      image.l1.bytes.fill(0)
      image.l1.bytes.set(taken.bytes)
      for (let index = 0; index < image.l1.size; index++) writer.touchL1(index)
      await writer.writeBack()
      writer.guard.switched()
      await countTree(writer, before, -1)
      await countTree(writer, image.l1, 0)
      await this.#disk.contentReplaced()
    })
  }

  async delete(idOrName: string): Promise<void> {
    const { image, writer } = this.#disk
    const snapshot = findSnapshot(image, idOrName)
    await this.#change(async () => {
      const taken = await this.#tableOf(snapshot)
      await this.#writeTable(image.snapshots.filter((other) => other !== snapshot))
      await countTree(writer, taken, -1)
      await this.#giveUp(taken.offset, taken.bytes.length)
      await countTree(writer, image.l1, 0)
    })
  }

  async #tableOf(snapshot: Snapshot): Promise<L1Table> {
    const { image } = this.#disk
    if (snapshot.l1Size * 8 > bounds.l1TableBytes || snapshot.l1Offset % image.geometry.clusterSize !== 0) {
      throw fault(image, 'corrupt', 'Snapshot L1 table offset or size invalid', `snapshot ${snapshot.id}`)
    }
    return readL1(image.file, snapshot.l1Offset, snapshot.l1Size)
  }

  /** Runs a change under the dirty bit (version 3): counts and COPIED flags disagree for a while, and whoever opens the image after a cut
   *  repairs that first. */
  #change(work: () => Promise<void>): Promise<void> {
    const { image, writer } = this.#disk
    return this.#disk.alone(async () => {
      await writer.writeBack()
      const wasDirty = (image.header.incompatibleFeatures & incompatible.dirty) !== 0n
      const mark = async (dirty: boolean) => {
        if (image.header.version < 3 || wasDirty) return
        if (dirty) image.header.incompatibleFeatures |= incompatible.dirty
        else image.header.incompatibleFeatures &= ~incompatible.dirty
        await writer.writeFeatures()
        await writer.store.flush()
      }
      await mark(true)
      try {
        await work()
      } catch (error) {
        // What is refused has been taken back; after anything else the image stays to be repaired.
        if (!isMoraineError(error) || !refusals.has(error.kind)) throw error
        await writer.writeBack()
        await mark(false)
        throw error
      }
      await writer.writeBack()
      await mark(false)
      // The counts that dropped last are written by the next write-back at the latest; a leak is all that can come of it.
      await writer.writeBack()
    })
  }

  /** @throws MoraineError `limit` when the table would be too large. */
  #encode(snapshots: Snapshot[]): Uint8Array {
    const bytes = encodeSnapshotTable(snapshots)
    if (bytes.length <= bounds.snapshotTableBytes) return bytes
    throw fault(this.#disk.image, 'limit', 'File too large', 'snapshot table')
  }

  /** Writes a new snapshot table, switches the header to it in one write, and frees the old one. */
  async #writeTable(snapshots: Snapshot[]): Promise<void> {
    const { image, writer } = this.#disk
    const { header } = image
    const bytes = this.#encode(snapshots)
    const offset = bytes.length === 0 ? 0 : await writer.refcounts.allocate(bytes.length)
    if (bytes.length > 0) await writer.store.write(offset, bytes)
    await writer.writeBack()
    const old = { offset: header.snapshotsOffset, length: storedTableBytes(image.snapshots) }
    const fields = new Uint8Array(12)
    viewOf(fields).setUint32(0, snapshots.length)
    setU64be(viewOf(fields), 4, offset)
    await writer.store.write(field.snapshotCount, fields)
    await writer.store.flush()
    header.snapshotCount = snapshots.length
    header.snapshotsOffset = offset
    // Every entry was written anew, with all the extra data that is known today.
    image.snapshots = snapshots.map((snapshot) => ({
      ...snapshot,
      storedBytes: encodeSnapshotTable([snapshot]).length,
    }))
    writer.guard.moved()
    await this.#giveUp(old.offset, old.length)
  }

  /** Frees a table that nothing points at any more, and gives its space back to the host. */
  async #giveUp(offset: number, length: number): Promise<void> {
    const { writer } = this.#disk
    const freed: HostRange[] = []
    await writer.refcounts.update(offset, length, -1, freed)
    await writer.giveBack(freed)
  }
}
