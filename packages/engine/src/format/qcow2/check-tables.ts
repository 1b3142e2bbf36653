/** Reading many tables of one size in order: neighbours in one request, several requests under way, memory bounded. `check` reads each table
 *  once, so a cache of pages would only cost time. */
import { type ByteSource, readPadded, throwIfCancelled } from '../../core/index.ts'

/** Longest request, in bytes (longer only where one table is). */
const requestBytes = 1024 * 1024
/** Requests under way at once. */
const requestsAhead = 8
/** Bytes of all requests under way. */
const bytesAhead = 8 * 1024 * 1024

/** What a plan answers for an index that needs nothing read: pass it over, or tell `each` about it without bytes. */
export const tablePlan = { pass: -1, bare: -2 } as const

/** Gives `each` the tables that `plan` names for the indexes from 0 to before `count`, in order. `plan` gives the byte offset of a table, or
 *  one of `tablePlan`; it is asked in order, a little ahead of `each`. What lies past the end of the file is zeros. The bytes belong to
 *  `each` only while it runs. */
export async function readTables(
  file: ByteSource,
  tableBytes: number,
  count: number,
  plan: (index: number) => number,
  each: (index: number, bytes: Uint8Array | undefined) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const ahead = Math.max(1, Math.min(requestsAhead, Math.floor(bytesAhead / tableBytes)))
  const perRequest = Math.max(1, Math.floor(requestBytes / tableBytes))
  const free: Uint8Array[] = []
  const queue: Request[] = []
  let next = 0
  const plans = new Lookahead(plan, count)
  try {
    for (;;) {
      while (queue.length < ahead) {
        const request = plans.take(next, perRequest, tableBytes)
        if (request === undefined) break
        next = request.end
        if (request.tables > 0) {
          const bytes = request.tables * tableBytes
          let buffer = free.pop()
          // No more than is wanted: where tables lie apart, each is read alone.
          if (buffer === undefined || buffer.length < bytes) buffer = new Uint8Array(bytes)
          request.bytes = buffer.subarray(0, bytes)
          request.buffer = buffer
          request.done = readPadded(file, request.offset, request.bytes, signal)
        }
        queue.push(request)
      }
      const request = queue.shift()
      if (request === undefined) return
      throwIfCancelled(signal, file.name)
      await request.done
      let at = 0
      for (const index of request.indexes) {
        const bytes = index >= 0 ? request.bytes?.subarray(at, at + tableBytes) : undefined
        if (index >= 0) at += tableBytes
        const pending = each(index >= 0 ? index : -1 - index, bytes)
        if (pending !== undefined) await pending
      }
      if (request.buffer !== undefined) free.push(request.buffer)
    }
  } finally {
    await Promise.allSettled(queue.map(({ done }) => done))
  }
}

interface Request {
  /** Indexes with a table, and `-1 - index` for those that `each` sees without one, in order. */
  indexes: number[]
  tables: number
  offset: number
  /** The first index that is not in this request. */
  end: number
  bytes?: Uint8Array
  buffer?: Uint8Array
  done?: Promise<void>
}

/** Cuts the answers of a plan, each asked for once, into requests. */
class Lookahead {
  readonly #plan: (index: number) => number
  readonly #count: number
  /** The answer that ended the last request and begins the next. */
  #kept: { index: number; offset: number } | undefined

  constructor(plan: (index: number) => number, count: number) {
    this.#plan = plan
    this.#count = count
  }

  take(start: number, most: number, tableBytes: number): Request | undefined {
    const request: Request = { indexes: [], tables: 0, offset: -1, end: start }
    for (let index = start; index < this.#count; index++) {
      const offset = this.#kept?.index === index ? this.#kept.offset : this.#plan(index)
      if (offset >= 0) {
        const follows = request.tables === 0 || offset === request.offset + request.tables * tableBytes
        if (!follows || request.tables === most) {
          this.#kept = { index, offset }
          return request
        }
        if (request.tables === 0) request.offset = offset
        request.tables++
        request.indexes.push(index)
      } else if (offset === tablePlan.bare) {
        request.indexes.push(-1 - index)
        if (request.indexes.length >= 4096) {
          request.end = index + 1
          return request
        }
      }
      request.end = index + 1
    }
    return request.indexes.length === 0 ? undefined : request
  }
}

/** Counts how often each table was met, by the number of its cluster (below 2^32 − 1). An open-addressing hash in typed arrays: 12 bytes a
 *  table, where a Map would take 50. */
export class TableSet {
  #keys = new Uint32Array(1024)
  #visits = new Uint32Array(1024)
  #size = 0

  /** Notes another visit. Returns how many there were before. */
  visit(cluster: number): number {
    if (this.#size * 4 >= this.#keys.length * 3) this.#grow()
    const slot = this.#slotOf(this.#keys, cluster + 1)
    if (this.#keys[slot] === 0) {
      this.#keys[slot] = cluster + 1
      this.#size++
    }
    const before = this.#visits[slot] as number
    this.#visits[slot] = before + 1
    return before
  }

  /** Takes the last visit back: it was made good by other means. */
  unvisit(cluster: number): void {
    const slot = this.#slotOf(this.#keys, cluster + 1)
    this.#visits[slot] = (this.#visits[slot] as number) - 1
  }

  /** Every table that was visited more than once: its cluster and the visits after the first, by cluster. */
  repeated(): { cluster: number; again: number }[] {
    const list: { cluster: number; again: number }[] = []
    for (let slot = 0; slot < this.#keys.length; slot++) {
      const again = (this.#visits[slot] as number) - 1
      if (again > 0) list.push({ cluster: (this.#keys[slot] as number) - 1, again })
    }
    return list.sort((a, b) => a.cluster - b.cluster)
  }

  #slotOf(keys: Uint32Array, key: number): number {
    const mask = keys.length - 1
    let slot = Math.imul(key, 0x9e3779b1) >>> 0
    slot = (slot ^ (slot >>> 15)) & mask
    while (keys[slot] !== 0 && keys[slot] !== key) slot = (slot + 1) & mask
    return slot
  }

  #grow(): void {
    const keys = new Uint32Array(this.#keys.length * 2)
    const visits = new Uint32Array(keys.length)
    for (let old = 0; old < this.#keys.length; old++) {
      const key = this.#keys[old] as number
      if (key === 0) continue
      const slot = this.#slotOf(keys, key)
      keys[slot] = key
      visits[slot] = this.#visits[old] as number
    }
    this.#keys = keys
    this.#visits = visits
  }
}
