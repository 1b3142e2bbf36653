/** Detection and safety: what bytes are, and whether they may be taken. One pass over a stream, or a few reads of a file; the verdict is the same. */
import type { ByteSource } from '../core/index.ts'
import { allInspectors } from './all.ts'
import { conclude } from './conclude.ts'
import { headBytes, type Inspector, tailBytes, type View } from './contract.ts'
import { type Finding, type Inspection, Report } from './finding.ts'
import { Session } from './session.ts'

/** How deep wrappers are looked into. */
const mostDepth = 3

/** Looks at bytes as they pass by. It keeps the head, the last bytes and the regions that formats ask for: under 2 MiB, however long the stream is. It never
 *  throws, whatever the bytes are. */
export class StreamInspector {
  readonly #inspectors: readonly Inspector[]
  readonly #depth: number
  /** By inspector, so that their order does not depend on when they were found. */
  readonly #findings: Finding[][]
  #head: Uint8Array = new Uint8Array(headBytes)
  readonly #ring = new Uint8Array(tailBytes)
  #sessions: Session[] | undefined
  #size = 0
  #result: Inspection | undefined

  constructor(inspectors: readonly Inspector[] = allInspectors, depth = 0) {
    this.#inspectors = inspectors
    this.#depth = depth
    this.#findings = inspectors.map(() => [])
  }

  /** Bytes seen so far. */
  get size(): number {
    return this.#size
  }

  /** The next bytes. They are not kept beyond the call. */
  push(chunk: Uint8Array): void {
    if (this.#result !== undefined || chunk.length === 0) return
    let offset = this.#size
    let rest = chunk
    this.#keepTail(chunk)
    if (this.#sessions === undefined) {
      const part = chunk.subarray(0, headBytes - offset)
      this.#head.set(part, offset)
      offset += part.length
      rest = chunk.subarray(part.length)
      if (offset === headBytes) this.#begin()
    }
    this.#size += chunk.length
    for (const session of this.#sessions ?? []) session.take(offset, rest)
  }

  /** What is known so far: nothing before the head is full (128 KiB). A match and a failed check stay; what is not there may still come. */
  seen(): Inspection {
    return this.#result ?? conclude(this.#findings.flat(), undefined)
  }

  /** Nothing more comes: the result. */
  end(): Inspection {
    if (this.#result !== undefined) return this.#result
    if (this.#sessions === undefined) {
      this.#head = this.#head.slice(0, this.#size)
      this.#begin()
    }
    const end = { size: this.#size, tail: this.#tail() }
    for (const session of this.#sessions ?? []) session.end(end)
    this.#result = conclude(this.#findings.flat(), this.#size)
    return this.#result
  }

  #begin(): void {
    this.#sessions = this.#inspectors.map((inspector, index) => {
      const list = this.#findings[index] as Finding[]
      return new Session(inspector, viewOf(this.#head, list, this.#inspectors, this.#depth))
    })
  }

  /** The last `tailBytes`, in a ring: the byte at stream offset n stands at n modulo its length. */
  #keepTail(chunk: Uint8Array): void {
    const last = chunk.subarray(Math.max(0, chunk.length - tailBytes))
    const at = (this.#size + chunk.length - last.length) % tailBytes
    const first = last.subarray(0, tailBytes - at)
    this.#ring.set(first, at)
    this.#ring.set(last.subarray(first.length))
  }

  #tail(): Uint8Array {
    if (this.#size < tailBytes) return this.#ring.slice(0, this.#size)
    const at = this.#size % tailBytes
    const tail = new Uint8Array(tailBytes)
    tail.set(this.#ring.subarray(at))
    tail.set(this.#ring.subarray(0, at), tailBytes - at)
    return tail
  }
}

function viewOf(head: Uint8Array, findings: Finding[], inspectors: readonly Inspector[], depth: number): View {
  return {
    head,
    found(format, kind, evidence, by = 'head') {
      const report = new Report(format, kind, evidence, by)
      findings.push(report.finding)
      return report
    },
    inner(bytes, whole) {
      // Less than a head that is not all there is would be judged as a file that was cut.
      if (depth + 1 >= mostDepth || (!whole && bytes.length < headBytes)) return undefined
      const inspector = new StreamInspector(inspectors, depth + 1)
      inspector.push(bytes)
      return whole ? inspector.end() : inspector.seen()
    },
  }
}

/** Looks at a source by its head, its tail and the few regions that formats ask for: at most 2 MiB are read, however large it is. It throws only what
 *  reading throws. */
export async function inspectSource(
  source: ByteSource,
  options: { signal?: AbortSignal | undefined; inspectors?: readonly Inspector[] | undefined } = {},
): Promise<Inspection> {
  const { signal, inspectors = allInspectors } = options
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, source.size - offset)))
    if (bytes.length > 0) await source.read(offset, bytes, signal)
    return bytes
  }
  const head = await read(0, headBytes)
  const tail =
    source.size <= head.length ? head.slice(-tailBytes) : await read(Math.max(0, source.size - tailBytes), tailBytes)
  const all: Finding[] = []
  for (const inspector of inspectors) {
    const session = new Session(inspector, viewOf(head, all, inspectors, 0))
    for (let wanted = session.wanted; wanted !== undefined; wanted = session.wanted) {
      const bytes = await read(wanted.offset, wanted.length)
      if (bytes.length === 0) break
      session.take(wanted.offset, bytes)
    }
    session.end({ size: source.size, tail })
  }
  return conclude(all, source.size)
}
