/** Kernels of x86 with the real-mode header of the Linux boot protocol. Facts: Linux, Documentation/arch/x86/boot.rst (protocol 2.15). */
import { fields, isPower, nameAt, stands } from '../../bytes/header.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { type Reading, regionAt } from '../reading.ts'
import { packingOf } from './packing.ts'

const sector = 512
const headerAt = 0x1f1
/** Longest that a command line's limit can sensibly be, and a version text. */
const mostVersion = 256

/** Reads the header of a bzImage or zImage; undefined where there is none. A header may lie: what it says is reported as it stands, and nothing is allocated by it. */
export function* readX86Kernel(head: Uint8Array): Reading<GuestContent | undefined> {
  if (!stands(head, 'HdrS', 0x202) || !stands(head, '\x55\xaa', 0x1fe)) return undefined
  const view = fields(head, 0, 0x270)
  const protocol = view.getUint16(0x206, true)
  const setupSectors = view.getUint8(headerAt) || 4
  const setup = (setupSectors + 1) * sector
  const loadedHigh = (view.getUint8(0x211) & 1) !== 0
  const flags = protocol >= 0x20c ? view.getUint16(0x236, true) : 0
  const codeBytes = view.getUint32(0x1f4, true) * 16
  const versionAt = view.getUint16(0x20e, true)
  // A pointer past the setup code points at nothing.
  const version = versionAt > 0 && versionAt + sector < setup ? nameAt(head, versionAt + sector, mostVersion) : ''
  const efi = stands(head, 'MZ') && stands(head, 'PE\0\0', view.getUint32(0x3c, true))
  const payload = protocol >= 0x208 ? yield* readPayload(view, setup) : {}
  const relocatable = protocol >= 0x205 && view.getUint8(0x234) !== 0
  return {
    kind: 'kernel',
    format: 'linux-kernel',
    subformat: loadedHigh ? 'bzImage' : 'zImage',
    evidence: `"HdrS" at ${0x202}, boot protocol ${protocol >> 8}.${protocol & 255}`,
    facts: factsOf({
      version,
      release: version.split(' ')[0],
      architecture: (flags & 1) !== 0 ? 'x86_64' : protocol >= 0x20c ? 'i386' : undefined,
      bootProtocol: `${protocol >> 8}.${String(protocol & 255).padStart(2, '0')}`,
      efiStub: efi,
      xloadflags: protocol >= 0x20c ? flagNames(flags) : undefined,
      relocatable,
      alignment:
        relocatable && isPower(view.getUint32(0x230, true), 1, 2 ** 30) ? view.getUint32(0x230, true) : undefined,
      commandLineBytes: protocol >= 0x206 ? view.getUint32(0x238, true) : undefined,
      initBytes: protocol >= 0x20a ? view.getUint32(0x260, true) : undefined,
      kernelBytes: setup + codeBytes,
      ...payload,
    }),
  }
}

function* readPayload(view: DataView, setup: number): Reading<Record<string, string | number | boolean>> {
  const at = view.getUint32(0x248, true)
  const length = view.getUint32(0x24c, true)
  if (length === 0) return {}
  const magic = yield* regionAt(setup + at, 16)
  const packing = packingOf(magic)
  const facts = { payload: packing ?? (stands(magic, '\x7fELF') ? 'ELF' : 'unknown'), payloadBytes: length }
  if (length < 4) return facts
  const last = yield* regionAt(setup + at + length - 4, 4)
  if (last.length < 4) return { ...facts, cut: true }
  return packing === undefined ? facts : { ...facts, unpackedSize: fields(last, 0, 4).getUint32(0, true) }
}

const loadFlags = [
  '64-bit entry',
  'above 4 GiB',
  'EFI handover 32',
  'EFI handover 64',
  'EFI kexec',
  '5-level',
  '5-level on',
]

function flagNames(flags: number): string[] {
  return loadFlags.filter((_, bit) => (flags & (1 << bit)) !== 0)
}
