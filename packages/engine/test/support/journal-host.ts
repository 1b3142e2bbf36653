/** A folder in memory whose files lose power together: images of several files, chains. */
import { type JournalClock, JournalStore, type MemoryStore } from '@moraine/engine'
import { MemoryHost } from './memory-host.ts'

/** Files that keep journals with one order. */
export class JournalHost extends MemoryHost<JournalStore> {
  readonly #clock: JournalClock

  /** Starts from copies of the files of `before`. */
  constructor(before: MemoryHost<MemoryStore>) {
    const clock: JournalClock = { time: 0 }
    super((empty) => new JournalStore(empty, clock))
    this.#clock = clock
    for (const [name, store] of before.files) this.files.set(name, new JournalStore(store, clock))
  }

  /** Entries made so far, in all files. */
  get time(): number {
    return this.#clock.time
  }

  /** What is left when the power fails before the entry of that time. */
  async cut(random: () => number, time?: number): Promise<MemoryHost<MemoryStore>> {
    const left = memoryHost()
    for (const [name, journal] of this.files) left.files.set(name, await journal.cut(random, time))
    return left
  }
}

/** A folder of plain files. */
export function memoryHost(): MemoryHost<MemoryStore> {
  return new MemoryHost((empty) => empty)
}

/** Changes bytes of a file by hand. */
export async function bend(store: MemoryStore, edit: (bytes: Uint8Array, view: DataView) => void): Promise<void> {
  const bytes = store.bytes()
  edit(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  await store.write(0, bytes)
}
