/** Rock Ridge: what POSIX knows of a file. Facts: RRIP 1.09 and 1.12 (IEEE P1282), section 4; zisofs as in libisofs' `doc/zisofs_format.txt`. */
import { viewOf } from '../../bytes/integers.ts'
import { both32, type DoubtAbout, latin1, readLongDate, readShortDate, readText } from './layout.ts'
import type { SystemUseField } from './system-use.ts'

/** What the fields of one record say; what they do not say is undefined. */
export interface RockRidge {
  name: string | undefined
  /** Type and permissions, as POSIX has them. */
  mode: number | undefined
  links: number | undefined
  uid: number | undefined
  gid: number | undefined
  /** Seconds since 1970. */
  created: number | undefined
  modified: number | undefined
  accessed: number | undefined
  changed: number | undefined
  /** Where a symbolic link leads. */
  target: string | undefined
  device: { major: number; minor: number } | undefined
  /** Logical block of a directory that stands elsewhere (CL). */
  child: number | undefined
  /** The record stands for a directory that belongs elsewhere (RE). */
  relocated: boolean
  /** A sparse file (SF). */
  sparse: boolean
  /** A file packed in blocks (ZF): algorithm, logarithm of its block size, and unpacked size. */
  packed: { algorithm: string; blockBits: number; size: number } | undefined
}

const continues = 1

/** Reads the fields. */
export function readRockRidge(fields: readonly SystemUseField[], doubt: DoubtAbout): RockRidge {
  const found: RockRidge = {
    name: undefined,
    mode: undefined,
    links: undefined,
    uid: undefined,
    gid: undefined,
    created: undefined,
    modified: undefined,
    accessed: undefined,
    changed: undefined,
    target: undefined,
    device: undefined,
    child: undefined,
    relocated: false,
    sparse: false,
    packed: undefined,
  }
  const names: Uint8Array[] = []
  const link = new LinkTarget()
  for (const { signature, data } of fields) {
    const view = viewOf(data)
    if (signature === 'NM' && data.length >= 1) names.push(data.subarray(1))
    else if (signature === 'PX' && data.length >= 32) {
      found.mode = both32(view, 0, 'PX mode', doubt)
      found.links = both32(view, 8, 'PX links', doubt)
      found.uid = both32(view, 16, 'PX uid', doubt)
      found.gid = both32(view, 24, 'PX gid', doubt)
    } else if (signature === 'TF' && data.length >= 1) readTimes(data, found)
    else if (signature === 'SL' && data.length >= 1) link.add(data)
    else if (signature === 'PN' && data.length >= 16) {
      const high = both32(view, 0, 'PN high', doubt)
      const low = both32(view, 8, 'PN low', doubt)
      found.device = high === 0 ? { major: low >>> 8, minor: low & 255 } : { major: high, minor: low }
    } else if (signature === 'CL' && data.length >= 8) found.child = both32(view, 0, 'CL', doubt)
    else if (signature === 'RE') found.relocated = true
    else if (signature === 'SF') found.sparse = true
    else if (signature === 'ZF' && data.length >= 12) {
      const size = both32(view, 4, 'ZF size', doubt)
      found.packed = { algorithm: latin1(data.subarray(0, 2)), blockBits: data[3] ?? 0, size }
    }
  }
  if (names.length > 0) found.name = readText(joined(names))
  found.target = link.text()
  return found
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** The order in which a TF field has the times that its flags name. */
const times = ['created', 'modified', 'accessed', 'changed'] as const

function readTimes(data: Uint8Array, found: RockRidge): void {
  const flags = data[0] ?? 0
  const long = (flags & 0x80) !== 0
  const size = long ? 17 : 7
  let at = 1
  for (const [bit, time] of times.entries()) {
    if ((flags & (1 << bit)) === 0) continue
    const bytes = data.subarray(at, at + size)
    if (bytes.length === size) found[time] = long ? readLongDate(bytes) : readShortDate(bytes)
    at += size
  }
}

/** The target of a symbolic link, which stands there in components. */
class LinkTarget {
  #parts: string[] = []
  #open: Uint8Array[] = []
  #seen = false

  add(data: Uint8Array): void {
    this.#seen = true
    for (let at = 1; at + 2 <= data.length; ) {
      const flags = data[at] ?? 0
      const length = data[at + 1] ?? 0
      const content = data.subarray(at + 2, at + 2 + length)
      at += 2 + length
      if ((flags & 8) !== 0) this.#parts = ['']
      else if ((flags & 2) !== 0) this.#parts.push('.')
      else if ((flags & 4) !== 0) this.#parts.push('..')
      else {
        this.#open.push(content)
        if ((flags & continues) === 0) this.#close()
      }
    }
  }

  text(): string | undefined {
    if (!this.#seen) return undefined
    if (this.#open.length > 0) this.#close()
    return this.#parts.length === 1 && this.#parts[0] === '' ? '/' : this.#parts.join('/')
  }

  #close(): void {
    this.#parts.push(readText(joined(this.#open)))
    this.#open = []
  }
}
