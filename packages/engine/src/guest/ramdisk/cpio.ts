/** cpio archives as kernels read them: `newc` with or without checksums, several in a row with zeros between. Names and sizes are a stranger's: nothing is unpacked, and nothing is
 *  allocated by what a header says. Facts: Linux, Documentation/driver-api/early-userspace/buffer-format.rst; cpio(5). */
import { latin1, name as printable, stands } from '../../bytes/header.ts'
import { roundUp } from '../../bytes/integers.ts'
import { type Reading, regionAt } from '../reading.ts'

const headerBytes = 110
/** Longest name that Linux takes, with the zero at its end. */
const mostNameBytes = 4096
/** A header with a name of usual length. */
const usualBytes = 512
const trailer = 'TRAILER!!!'
const typeMask = 0o170_000
const regular = 0o100_000
const link = 0o120_000

/** What archives in a row hold. */
export interface Archives {
  /** Members, trailers not counted. */
  members: number
  /** Bytes of the contents of all members. */
  contentBytes: number
  /** There is a program or a link `/init`, which the kernel starts first. */
  init: boolean
  /** Vendors of processors for whom there is early microcode. */
  microcode: string[]
  /** Kernels for which there are modules. */
  modules: string[]
  /** Early ACPI tables. */
  acpi: boolean
  /** The first member whose name would leave the root folder, by `..`. */
  outside?: string
  /** What is wrong with them, and where. */
  fault?: string
  /** Offset behind the last archive and the zeros after it. */
  end: number
  /** Something else follows there. False at the end of the bytes, and where the bounds came first. */
  more: boolean
  /** All members were seen. */
  complete: boolean
}

/** Whether an archive begins here. */
export function isCpio(head: Uint8Array, at = 0): boolean {
  return stands(head, '070701', at) || stands(head, '070702', at)
}

interface Header {
  name: string
  mode: number
  size: number
  /** Bytes from this header to the next. */
  length: number
}

/** Reads archives from `start` on, at most `mostMembers` of their members. */
export function* readArchives(start: number, mostMembers: number): Reading<Archives> {
  const found: Archives = {
    members: 0,
    contentBytes: 0,
    init: false,
    microcode: [],
    modules: [],
    acpi: false,
    end: start,
    more: false,
    complete: false,
  }
  for (let at = start; ; ) {
    const bytes = yield* regionAt(at, usualBytes)
    if (!isCpio(bytes)) {
      const next = yield* skipZeros(at, bytes)
      found.end = next.at
      // Linux begins an archive on a multiple of 4 only.
      if (isCpio(next.bytes) && (next.at - start) % 4 === 0) {
        at = next.at
        continue
      }
      found.more = next.bytes.length > 0
      found.complete = true
      return found
    }
    const header = yield* readHeader(at, bytes)
    if (typeof header === 'string') return { ...found, fault: `${header}, at ${at}`, end: at }
    if (found.members === mostMembers) return { ...found, end: at }
    at += header.length
    found.end = at
    if (header.name === trailer) continue
    note(found, header)
    const last = yield* regionAt(at - 1, 1)
    if (header.size > 0 && last.length === 0) {
      return {
        ...found,
        fault: `${JSON.stringify(printable(header.name))} says ${header.size} bytes, and the archive ends before`,
      }
    }
  }
}

/** The header at `at`, or what is wrong with it. */
function* readHeader(at: number, bytes: Uint8Array): Reading<Header | string> {
  if (bytes.length < headerBytes) return 'a header is cut'
  const digits = latin1(bytes, 6, headerBytes)
  if (!/^[0-9a-fA-F]+$/.test(digits)) return 'a header has something else than digits'
  const field = (index: number): number => Number.parseInt(digits.slice(index * 8, index * 8 + 8), 16)
  const nameBytes = field(11)
  if (nameBytes < 1 || nameBytes > mostNameBytes) return `a name of ${nameBytes} bytes; rule: 1 to ${mostNameBytes}`
  const wanted = headerBytes + nameBytes
  const whole = wanted <= bytes.length ? bytes : yield* regionAt(at, wanted)
  if (whole.length < wanted) return 'a name is cut'
  if (whole[wanted - 1] !== 0) return 'a name has no end'
  const size = field(6)
  return {
    name: latin1(whole, headerBytes, wanted - 1),
    mode: field(1),
    size,
    length: roundUp(wanted, 4) + roundUp(size, 4),
  }
}

function note(found: Archives, { name, mode, size }: Header): void {
  found.members++
  found.contentBytes += size
  const path = name.replace(/^(\.?\/)+/, '')
  const type = mode & typeMask
  if (path === 'init' && (type === regular || type === link)) found.init = true
  if (path.split('/').includes('..')) found.outside ??= printable(name)
  const microcode = /^kernel\/x86\/microcode\/(\w+)\.bin$/.exec(path)?.[1]
  if (microcode !== undefined) addOnce(found.microcode, microcode)
  if (path.startsWith('kernel/firmware/acpi/') && type === regular) found.acpi = true
  const modules = /^(?:usr\/)?lib\/modules\/([^/]+)\//.exec(path)?.[1]
  if (modules !== undefined) addOnce(found.modules, printable(modules))
}

/** A stranger's archive may name thousands; a few are enough. */
function addOnce(list: string[], text: string): void {
  if (list.length < 8 && !list.includes(text)) list.push(text)
}

const zerosAtOnce = 64 * 1024
/** Most zeros that are passed over. */
const mostZeros = 64 * 1024 * 1024

/** The first byte that is not zero, and what stands there; nothing at the end. */
function* skipZeros(start: number, first: Uint8Array): Reading<{ at: number; bytes: Uint8Array }> {
  let bytes = first
  for (let at = start; at - start < mostZeros; at += bytes.length, bytes = yield* regionAt(at, zerosAtOnce)) {
    if (bytes.length === 0) return { at, bytes }
    const index = bytes.findIndex((byte) => byte !== 0)
    if (index >= 0) return { at: at + index, bytes: yield* regionAt(at + index, 16) }
  }
  return { at: start + mostZeros, bytes: new Uint8Array(0) }
}
