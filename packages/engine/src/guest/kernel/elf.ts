/** Kernels as ELF files: an unpacked vmlinux, kernels for Xen's paravirtual machines, unikernels, GRUB for Xen. Facts: System V ABI, chapters 4 and 5; Xen, public/elfnote.h. */
import { fields, nameAt, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import type { DetailValue } from '../../core/index.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { type Reading, regionAt } from '../reading.ts'

/** Bounds on what a header may make us read. */
const mostSegments = 64
const mostNoteBytes = 16 * 1024
const mostNoteSegments = 4
const mostNotes = 256

const machines: Readonly<Record<number, string>> = {
  2: 'sparc',
  3: 'i386',
  8: 'mips',
  20: 'ppc',
  21: 'ppc64',
  22: 's390x',
  40: 'arm',
  62: 'x86_64',
  183: 'arm64',
  243: 'riscv',
  258: 'loongarch64',
}
const types: Readonly<Record<number, string>> = { 1: 'relocatable', 2: 'executable', 3: 'shared', 4: 'core' }
const segmentNote = 4
const segmentInterpreter = 3

/** How numbers stand in one file. */
interface Layout {
  wide: boolean
  little: boolean
}

/** Reads an ELF header, and the notes that tell what it is for: kernels have notes of Linux or for Xen. */
export function* readElf(head: Uint8Array): Reading<GuestContent | undefined> {
  if (!stands(head, '\x7fELF') || head.length < 64) return undefined
  const layout = { wide: head[4] === 2, little: head[5] !== 2 }
  const view = fields(head, 0, 64)
  const type = view.getUint16(16, layout.little)
  const machine = view.getUint16(18, layout.little)
  const facts: Record<string, DetailValue | undefined> = {
    architecture: machines[machine] ?? `machine ${machine}`,
    bits: layout.wide ? 64 : 32,
    type: types[type] ?? `type ${type}`,
  }
  const { segments, interpreter } = yield* readSegments(view, layout)
  for (const { offset, length } of segments.slice(0, mostNoteSegments)) {
    Object.assign(facts, readNotes(yield* regionAt(offset, Math.min(length, mostNoteBytes)), layout))
  }
  const isXen = facts.xenGuest !== undefined
  const isKernel = !interpreter && (isXen || facts.linux === true)
  return {
    kind: isKernel ? 'kernel' : 'program',
    format: 'elf',
    ...(isKernel ? { subformat: isXen ? 'Xen kernel' : 'vmlinux' } : {}),
    evidence: '"\\x7fELF" at 0',
    facts: factsOf(facts),
  }
}

function* readSegments(
  view: DataView,
  { wide, little }: Layout,
): Reading<{ segments: { offset: number; length: number }[]; interpreter: boolean }> {
  const at = wide ? word(view, 32, little) : view.getUint32(28, little)
  const size = view.getUint16(wide ? 54 : 42, little)
  const count = Math.min(view.getUint16(wide ? 56 : 44, little), mostSegments)
  const segments: { offset: number; length: number }[] = []
  let interpreter = false
  if (size < (wide ? 56 : 32) || size > 256) return { segments, interpreter }
  const table = yield* regionAt(at, size * count)
  for (let start = 0; start + size <= table.length; start += size) {
    const entry = fields(table, start, size)
    const type = entry.getUint32(0, little)
    if (type === segmentInterpreter) interpreter = true
    if (type !== segmentNote) continue
    segments.push({
      offset: wide ? word(entry, 8, little) : entry.getUint32(4, little),
      length: wide ? word(entry, 32, little) : entry.getUint32(16, little),
    })
  }
  return { segments, interpreter }
}

/** A 64-bit number; what no number can hold is Infinity. */
function word(view: DataView, at: number, little: boolean): number {
  if (little) return u64le(view, at)
  const value = view.getBigUint64(at)
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value)
}

const xenTexts: Readonly<Record<number, string>> = {
  5: 'xenVersion',
  6: 'xenGuest',
  7: 'xenGuestVersion',
  8: 'xenLoader',
  10: 'xenFeatures',
}
const xenPvh = 18

function readNotes(bytes: Uint8Array, { little }: Layout): Record<string, DetailValue> {
  const facts: Record<string, DetailValue> = {}
  let at = 0
  for (let count = 0; count < mostNotes && at + 12 <= bytes.length; count++) {
    const head = fields(bytes, at, 12)
    const nameBytes = head.getUint32(0, little)
    const dataBytes = head.getUint32(4, little)
    const type = head.getUint32(8, little)
    const dataAt = at + 12 + Math.ceil(nameBytes / 4) * 4
    const next = dataAt + Math.ceil(dataBytes / 4) * 4
    if (next > bytes.length) break
    const owner = nameAt(bytes, at + 12, nameBytes)
    if (owner === 'Xen') {
      const fact = xenTexts[type]
      if (fact !== undefined) facts[fact] = nameAt(bytes, dataAt, dataBytes)
      if (type === xenPvh) facts.xenPvh = true
    } else if (owner === 'GNU' && type === 3) facts.buildId = hex(bytes.subarray(dataAt, dataAt + dataBytes))
    else if (owner === 'Linux') facts.linux = true
    at = next
  }
  return facts
}

function hex(bytes: Uint8Array): string {
  return [...bytes.subarray(0, 64)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
