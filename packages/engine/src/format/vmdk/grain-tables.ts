/** The grain tables of one sparse extent: read on demand, kept by use, written back together, both copies of each. */
import { viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type ByteStore, MoraineError, readPadded } from '../../core/index.ts'
import type { GrainDirectory } from './grain-directory.ts'

/** One grain table. */
export interface GrainTable {
  readonly index: number
  /** Byte offset in the file. */
  readonly offset: number
  /** Byte offset of the redundant copy; 0 when there is none. */
  readonly copy: number
  readonly bytes: Uint8Array
  readonly view: DataView
  dirty: boolean
  /** The file does not tell it yet: it is on its way there, or no directory names it. */
  held: boolean
  used: number
}

/** Tables that are read ahead when a disk is walked from front to back. */
const readAhead = 32

/** Longest run of neighbouring tables that is written in one request, in bytes. */
const writeRun = 1024 * 1024

/** Most tables in memory, however small they are. */
const mostTables = 32_768

/** What the extents of one image keep together: a split image may have thousands, of which one is in use. */
export class TableBudget {
  readonly #bytes: number
  /** What each extent holds, in bytes; the one used longest ago comes first. */
  readonly #held = new Map<GrainTables, number>()
  #total = 0

  /** @param bytes of tables, all extents together */
  constructor(bytes: number) {
    this.#bytes = bytes
  }

  /** Notes what an extent holds, and lets others forget what they can where that is too much. */
  note(tables: GrainTables, bytes: number): void {
    this.#total += bytes - (this.#held.get(tables) ?? 0)
    this.#held.delete(tables)
    this.#held.set(tables, bytes)
    for (const [other, held] of this.#held) {
      if (this.#total <= this.#bytes || other === tables) return
      const left = other.forgetClean()
      this.#total -= held - left
      if (left === 0) this.#held.delete(other)
      else this.#held.set(other, left)
    }
  }
}

/** A bounded cache of the grain tables of one extent. */
export class GrainTables {
  readonly directory: GrainDirectory
  readonly #redundant: GrainDirectory | undefined
  readonly #file: ByteSource
  readonly #tableBytes: number
  readonly #capacity: number
  readonly #tables = new Map<number, GrainTable>()
  readonly #loading = new Map<number, Promise<GrainTable | undefined>>()
  readonly #unlinked = new Set<GrainTable>()
  readonly #budget: TableBudget | undefined
  #clock = 0
  #dirty = 0
  #last = -2

  /** `budget`: that of all extents of an image of several. */
  constructor(
    file: ByteSource,
    directory: GrainDirectory,
    redundant: GrainDirectory | undefined,
    tableBytes: number,
    cacheBytes: number,
    budget?: TableBudget,
  ) {
    this.#budget = budget
    this.#file = file
    this.directory = directory
    this.#redundant = redundant
    this.#tableBytes = tableBytes
    this.#capacity = Math.min(mostTables, Math.max(2 * readAhead, Math.floor(cacheBytes / tableBytes)))
  }

  /** Whether so many tables are dirty that they should be written back before more are touched. */
  get crowded(): boolean {
    return this.#dirty * 2 > this.#capacity
  }

  /** Those that no directory names yet. */
  get unlinked(): readonly GrainTable[] {
    return [...this.#unlinked]
  }

  get isDirty(): boolean {
    return this.#dirty > 0
  }

  /** The table of this index; undefined where the directory has none. */
  get(index: number): GrainTable | undefined | Promise<GrainTable | undefined> {
    const table = this.#tables.get(index)
    if (table !== undefined) {
      table.used = ++this.#clock
      return table
    }
    if (this.directory.peek(index) === 0) return undefined
    const running = this.#loading.get(index)
    if (running !== undefined) return running
    const promise = this.#load(index).finally(() => this.#loading.delete(index))
    this.#loading.set(index, promise)
    return promise
  }

  /** A new table, all zeros and dirty, at a place that nothing refers to yet. It stays in memory until `linked`. */
  fresh(index: number, offset: number, copy: number): GrainTable {
    const table = this.#keep(index, offset, copy, new Uint8Array(this.#tableBytes))
    table.held = true
    this.#unlinked.add(table)
    this.touch(table)
    return table
  }

  /** Says that the directory names a table that was fresh. */
  linked(table: GrainTable): void {
    this.#unlinked.delete(table)
    table.held = false
  }

  /** Marks a table as changed. */
  touch(table: GrainTable): void {
    if (table.dirty) return
    // It may have been evicted since it was given out; one writer at a time changes tables, so it simply comes back.
    this.#tables.set(table.index, table)
    table.dirty = true
    this.#dirty++
  }

  /** Writes the changed tables, the redundant copies first: readers look at the others. */
  async writeBack(store: ByteStore): Promise<void> {
    if (this.#dirty === 0) return
    const tables = [...this.#tables.values()].filter(({ dirty }) => dirty)
    for (const table of tables) {
      table.dirty = false
      table.held = true
    }
    this.#dirty -= tables.length
    const pieces = tables.map(({ offset, copy, bytes }) => ({ offset, copy, bytes: bytes.slice() }))
    try {
      const copies = pieces.filter(({ copy }) => copy !== 0).map(({ copy, bytes }) => ({ offset: copy, bytes }))
      await writeRuns(copies, this.#tableBytes, store)
      await writeRuns(pieces, this.#tableBytes, store)
    } catch (error) {
      for (const table of tables) this.touch(table)
      throw error
    } finally {
      for (const table of tables) table.held = this.#unlinked.has(table)
    }
  }

  async #load(index: number): Promise<GrainTable | undefined> {
    const found = this.directory.get(index)
    const offset = found instanceof Promise ? await found : found
    if (offset === 0) return undefined
    if (offset === Number.POSITIVE_INFINITY) {
      throw new MoraineError('corrupt', 'a grain directory entry is invalid', {
        path: this.#file.name,
        format: 'vmdk',
        field: 'grain directory',
        offset: this.directory.offset,
        value: index,
      })
    }
    const inOrder = index === this.#last + 1
    this.#last = index
    const count = inOrder ? this.#neighbours(index, offset) : 1
    this.#last += count - 1
    const bytes = new Uint8Array(count * this.#tableBytes)
    const copies: number[] = []
    for (let i = 0; i < count; i++) {
      const copy = this.#redundant?.get(index + i) ?? 0
      copies.push(copy instanceof Promise ? await copy : copy)
    }
    await readPadded(this.#file, offset, bytes)
    for (let i = count - 1; i >= 0; i--) {
      // Someone may have made or changed the table in the meantime; theirs is newer.
      if (this.#tables.has(index + i)) continue
      const from = i * this.#tableBytes
      const own = count === 1 ? bytes : bytes.slice(from, from + this.#tableBytes)
      this.#keep(index + i, offset + from, copies[i] ?? 0, own)
    }
    return this.#tables.get(index)
  }

  /** How many tables lie side by side in the file from this one on. */
  #neighbours(index: number, offset: number): number {
    let count = 1
    while (
      count < readAhead &&
      this.directory.peek(index + count) === offset + count * this.#tableBytes &&
      !this.#tables.has(index + count)
    ) {
      count++
    }
    return count
  }

  #keep(index: number, offset: number, copy: number, bytes: Uint8Array): GrainTable {
    const table = { index, offset, copy, bytes, view: viewOf(bytes), dirty: false, held: false, used: ++this.#clock }
    this.#tables.set(index, table)
    if (this.#tables.size > this.#capacity) this.#evict()
    this.#budget?.note(this, this.#tables.size * this.#tableBytes)
    return table
  }

  /** Forgets what is in the file. Returns the bytes that are left. */
  forgetClean(): number {
    for (const { index, dirty, held } of this.#tables.values()) if (!dirty && !held) this.#tables.delete(index)
    return this.#tables.size * this.#tableBytes
  }

  /** Drops the quarter of the clean tables that was used longest ago. */
  #evict(): void {
    const clean = [...this.#tables.values()].filter(({ dirty, held }) => !dirty && !held)
    clean.sort((a, b) => a.used - b.used)
    for (const table of clean.slice(0, Math.ceil(clean.length / 4))) this.#tables.delete(table.index)
  }
}

interface TablePiece {
  offset: number
  bytes: Uint8Array
}

/** Writes tables, neighbours in one request. */
async function writeRuns(pieces: TablePiece[], tableBytes: number, store: ByteStore): Promise<void> {
  pieces.sort((a, b) => a.offset - b.offset)
  for (let first = 0; first < pieces.length; ) {
    const start = (pieces[first] as TablePiece).offset
    let end = first + 1
    while (pieces[end]?.offset === start + (end - first) * tableBytes && (end - first + 1) * tableBytes <= writeRun) {
      end++
    }
    const run = pieces.slice(first, end)
    const bytes = run.length === 1 ? (run[0] as TablePiece).bytes : new Uint8Array(run.length * tableBytes)
    if (run.length > 1) for (const [i, piece] of run.entries()) bytes.set(piece.bytes, i * tableBytes)
    await store.write(start, bytes)
    first = end
  }
}
