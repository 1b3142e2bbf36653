/** What a repair writes: entries of tables, the snapshot table, feature bits. Each write may be the last before a power cut: counts are made
 *  right (and flushed) before flags and pointers rely on them, and the marks of a damaged image go last. */

import { setU64be, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, MoraineError } from '../../core/index.ts'
import type { ZeroedEntry } from './check-entries.ts'
import type { Findings } from './check-findings.ts'
import { type CheckedSnapshots, encodeCheckedSnapshots } from './check-snapshots.ts'
import { fault, type Qcow2Image } from './image.ts'
import { autoclear, bounds, field, incompatible, knownAutoclear } from './layout.ts'
import { MetadataGuard } from './metadata-guard.ts'
import { RefcountReader } from './refcount-reader.ts'
import { Refcounts } from './refcounts.ts'

/** A kind of table whose own writes need no protection from itself. */
type Ignored = 'active L1 table' | 'active L2 table' | 'inactive L2 table' | 'refcount block' | 'refcount structures'

/** The writing side of a repair. */
export class Repairer {
  readonly image: Qcow2Image
  readonly store: ByteStore
  readonly #findings: Findings
  #snapshots: CheckedSnapshots
  #begun = false

  constructor(image: Qcow2Image, store: ByteStore, findings: Findings, snapshots: CheckedSnapshots) {
    this.image = image
    this.store = store
    this.#findings = findings
    this.#snapshots = snapshots
  }

  /** Before the first write: features that this engine does not know are no longer vouched for. */
  async begin(): Promise<void> {
    if (this.#begun) return
    this.#begun = true
    const { header } = this.image
    if ((header.autoclearFeatures & ~knownAutoclear) === 0n) return
    header.autoclearFeatures &= knownAutoclear
    await this.#writeFeature(field.autoclearFeatures, header.autoclearFeatures)
  }

  async #writeFeature(offset: number, value: bigint): Promise<void> {
    const bytes = new Uint8Array(8)
    viewOf(bytes).setBigUint64(0, value)
    await this.store.write(offset, bytes)
    await this.store.flush()
  }

  /** Replaces entries that point nowhere sensible by "reads as zeros".
   *  @throws MoraineError `corrupt` when they lie in other metadata. */
  async zeroEntries(entries: readonly ZeroedEntry[], active: boolean): Promise<void> {
    await this.begin()
    for (const { offset, bytes } of entries) {
      await this.#guard(offset, bytes.length, active ? 'active L2 table' : 'inactive L2 table')
      await this.store.write(offset, bytes)
    }
    await this.store.flush()
  }

  /** Writes the part of a table that has changed. */
  async writeTable(offset: number, bytes: Uint8Array, kind: Ignored): Promise<void> {
    await this.begin()
    await this.#guard(offset, bytes.length, kind)
    await this.store.write(offset, bytes)
  }

  /** Refuses to write a refcount block whose cluster is other metadata too.
   *  @throws MoraineError `corrupt`. */
  guardBlock(offset: number): Promise<void> {
    return this.#guard(offset, this.image.geometry.clusterSize, 'refcount block')
  }

  /** Refuses to write new refcount structures where other metadata are said to be: tables past the end of the file are not counted. The old
   *  structures are given up in any case.
   *  @throws MoraineError `corrupt`. */
  async guardStructures(what: 'refblock' | 'reftable', clusters: ReadonlySet<number>): Promise<void> {
    const { clusterSize } = this.image.geometry
    const meets = (at: number, bytes: number): boolean => {
      if (at % 1 !== 0) return false
      const end = Math.ceil((at + bytes) / clusterSize)
      for (let cluster = Math.floor(at / clusterSize); cluster < end; cluster++) if (clusters.has(cluster)) return true
      return false
    }
    const [first = 0] = clusters
    try {
      await this.#refuse(await this.#overlap(meets, 'refcount structures'), first * clusterSize)
    } catch (error) {
      this.#findings.failure(`ERROR writing ${what}: Input/output error`)
      throw error
    }
  }

  /** Refuses to write a table over other metadata, and marks the image as corrupt then, as QEMU does. */
  async #guard(offset: number, length: number, ignored: Ignored): Promise<void> {
    const { clusterSize } = this.image.geometry
    const start = offset - (offset % clusterSize)
    const end = Math.ceil((offset + length) / clusterSize) * clusterSize
    const meets = (at: number, bytes: number) => bytes > 0 && at < end && at + bytes > start
    await this.#refuse(start < clusterSize ? 'qcow2_header' : await this.#overlap(meets, ignored), offset)
  }

  async #refuse(what: string | undefined, offset: number): Promise<void> {
    if (what === undefined) return
    this.#findings.say(
      `qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with ${what}); ` +
        'further corruption events will be suppressed',
    )
    this.#findings.checkErrors++
    await this.markCorrupt()
    throw new MoraineError('corrupt', 'Input/output error', {
      path: this.image.file.name,
      format: 'qcow2',
      field: what,
      offset,
      rule: 'metadata does not overlap',
      hint: 'The image cannot be repaired in place; copy what can be read of it.',
    })
  }

  /** What metadata a write meets. */
  async #overlap(meets: (at: number, bytes: number) => boolean, ignored: Ignored): Promise<string | undefined> {
    const { header, geometry, l1 } = this.image
    const { clusterSize } = geometry
    if (ignored !== 'active L1 table' && meets(l1.offset, l1.bytes.length)) return 'active L1 table'
    const table = header.refcountTableClusters * clusterSize
    if (ignored !== 'refcount structures' && meets(header.refcountTableOffset, table)) return 'refcount table'
    if (meets(this.#snapshots.offset, this.#snapshots.length)) return 'snapshot table'
    for (const { l1Offset, l1Size } of this.#snapshots.list) {
      if (meets(l1Offset, l1Size * 8)) return 'inactive L1 table'
    }
    if (ignored !== 'active L2 table') {
      for (let index = 0; index < l1.size; index++) {
        const table = l1.l2Offset(index)
        if (table !== 0 && meets(table, clusterSize)) return 'active L2 table'
      }
    }
    if (ignored !== 'refcount block' && ignored !== 'refcount structures') {
      for (const block of await RefcountReader.readTable(this.image)) {
        if (block > 0 && meets(block, clusterSize)) return 'refcount block'
      }
    }
    const { bitmaps } = header
    const vouched = (header.autoclearFeatures & autoclear.bitmaps) !== 0n
    if (bitmaps !== undefined && vouched && meets(bitmaps.directoryOffset, bitmaps.directorySize)) {
      return 'bitmap directory'
    }
    return undefined
  }

  /** Sets the corrupt bit: the image must not be written to by anyone until it is repaired. Version 2 has no such bit. */
  async markCorrupt(): Promise<void> {
    const { header } = this.image
    if (header.version < 3 || (header.incompatibleFeatures & incompatible.corrupt) !== 0n) return
    header.incompatibleFeatures |= incompatible.corrupt
    await this.#writeFeature(field.incompatibleFeatures, header.incompatibleFeatures)
  }

  /** Takes the dirty and the corrupt bit away, once everything is in the file and right. */
  async markSound(): Promise<void> {
    const { header } = this.image
    const marks = incompatible.dirty | incompatible.corrupt
    if ((header.incompatibleFeatures & marks) === 0n) return
    await this.begin()
    await this.store.flush()
    header.incompatibleFeatures &= ~marks
    await this.#writeFeature(field.incompatibleFeatures, header.incompatibleFeatures)
  }

  /** Sets the number of snapshots: those past it are lost already. */
  async writeSnapshotCount(count: number): Promise<void> {
    await this.begin()
    const bytes = new Uint8Array(4)
    viewOf(bytes).setUint32(0, count)
    await this.store.write(field.snapshotCount, bytes)
    await this.store.flush()
    this.image.header.snapshotCount = count
  }

  /** Writes the snapshot table anew, with all that this version of the format wants, and frees the old one. The counts must be right.
   *  @throws MoraineError `limit`, `corrupt`. */
  async writeSnapshots(): Promise<void> {
    await this.begin()
    const { image, store } = this
    const { header, cache } = image
    const bytes = encodeCheckedSnapshots(this.#snapshots.list, image.size)
    if (bytes.length > bounds.snapshotTableBytes) throw fault(image, 'limit', 'File too large', 'snapshot table')
    cache.clear()
    const refcounts = await Refcounts.openForWriting(image, store, new MetadataGuard(image))
    const offset = bytes.length === 0 ? 0 : await refcounts.allocate(bytes.length)
    if (bytes.length > 0) await store.write(offset, bytes)
    await cache.writeBack('refcount', store)
    await store.flush()
    const fields = new Uint8Array(12)
    viewOf(fields).setUint32(0, this.#snapshots.list.length)
    setU64be(viewOf(fields), 4, offset)
    await store.write(field.snapshotCount, fields)
    await store.flush()
    const old = this.#snapshots
    header.snapshotCount = old.list.length
    header.snapshotsOffset = offset
    this.#snapshots = { ...old, offset, length: bytes.length }
    if (old.length > 0) await refcounts.update(old.offset, old.length, -1)
    await cache.writeBack('refcount', store)
    await store.flush()
    const { clusterSize } = image.geometry
    for (let at = old.offset; at < Math.min(old.offset + old.length, store.size); at += clusterSize) {
      if ((await refcounts.get(at / clusterSize)) === 0) await store.discard(at, Math.min(clusterSize, store.size - at))
    }
  }

  /** Points the header at other refcount structures, which are in the file already. */
  async switchRefcountTable(offset: number, clusters: number): Promise<void> {
    const { header } = this.image
    await this.store.flush()
    const bytes = new Uint8Array(12)
    setU64be(viewOf(bytes), 0, offset)
    viewOf(bytes).setUint32(8, clusters)
    await this.store.write(field.refcountTableOffset, bytes)
    await this.store.flush()
    header.refcountTableOffset = offset
    header.refcountTableClusters = clusters
  }
}
