/** Kernels that boot loaders of other processors, U-Boot or UEFI start. Facts: Linux, Documentation/arch/arm64/booting.rst and arch/riscv/boot-image-header.rst,
 *  drivers/firmware/efi/libstub/zboot-header.S; U-Boot, include/image.h and doc/usage/fit; the PE/COFF specification; the UAPI group's specification of unified kernel images. */
import { fields, latin1, name, nameAt, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import type { DetailValue } from '../../core/index.ts'
import { factsOf, type GuestContent } from '../content.ts'

function kernel(
  format: string,
  subformat: string,
  evidence: string,
  facts: Record<string, DetailValue | undefined>,
): GuestContent {
  return { kind: 'kernel', format, subformat, evidence, facts: factsOf(facts) }
}

const hasEfi = (head: Uint8Array): boolean =>
  stands(head, 'MZ') && stands(head, 'PE\0\0', fields(head, 0x3c, 4).getUint32(0, true))

const finite = (value: number): number | undefined => (Number.isFinite(value) ? value : undefined)

/** The raw Image of arm64. */
export function readArm64Image(head: Uint8Array): GuestContent | undefined {
  if (!stands(head, 'ARM\x64', 56)) return undefined
  const view = fields(head, 0, 64)
  const flags = view.getUint32(24, true)
  return kernel('linux-kernel', 'Image', '"ARM\\x64" at 56', {
    architecture: 'arm64',
    endianness: (flags & 1) === 0 ? 'little' : 'big',
    pageSize: [undefined, 4096, 16_384, 65_536][(flags >> 1) & 3],
    textOffset: finite(u64le(view, 8)),
    kernelBytes: finite(u64le(view, 16)),
    efiStub: hasEfi(head),
  })
}

/** The raw Image of RISC-V. */
export function readRiscvImage(head: Uint8Array): GuestContent | undefined {
  if (!stands(head, 'RSC\x05', 56)) return undefined
  const view = fields(head, 0, 64)
  const version = view.getUint32(32, true)
  return kernel('linux-kernel', 'Image', '"RSC\\x05" at 56', {
    architecture: 'riscv',
    headerVersion: `${version >> 16}.${version & 0xffff}`,
    textOffset: finite(u64le(view, 8)),
    kernelBytes: finite(u64le(view, 16)),
    efiStub: hasEfi(head),
  })
}

/** A kernel that unpacks itself when UEFI starts it. */
export function readZboot(head: Uint8Array): GuestContent | undefined {
  if (!stands(head, 'MZ') || !stands(head, 'zimg', 4)) return undefined
  const view = fields(head, 0, 32)
  return kernel('linux-kernel', 'EFI zboot', '"zimg" at 4', {
    architecture: peMachine(head),
    payload: nameAt(head, 24, 8),
    payloadOffset: view.getUint32(8, true),
    payloadBytes: view.getUint32(12, true),
    efiStub: true,
  })
}

/** The zImage of 32-bit ARM. */
export function readArmZImage(head: Uint8Array): GuestContent | undefined {
  const view = fields(head, 0, 64)
  const little = view.getUint32(0x24, true) === 0x016f_2818
  if (!little && view.getUint32(0x24) !== 0x016f_2818) return undefined
  return kernel('linux-kernel', 'zImage', `0x016f2818 at ${0x24}`, {
    architecture: 'arm',
    endianness: little ? 'little' : 'big',
    kernelBytes: view.getUint32(0x2c, little) - view.getUint32(0x28, little),
  })
}

const ubootTypes: Readonly<Record<number, string>> = {
  2: 'kernel',
  3: 'ramdisk',
  4: 'multi-file',
  5: 'firmware',
  6: 'script',
}
const ubootPackings = ['none', 'gzip', 'bzip2', 'lzma', 'lzo', 'lz4', 'zstd']

/** U-Boot's legacy image: a kernel or a ramdisk behind a header of 64 bytes. */
export function readUImage(head: Uint8Array): GuestContent | undefined {
  if (!stands(head, '\x27\x05\x19\x56') || head.length < 64) return undefined
  const type = ubootTypes[head[30] as number] ?? `type ${head[30]}`
  return {
    ...kernel('uimage', type, '27 05 19 56 at 0', {
      name: nameAt(head, 32, 32),
      payload: ubootPackings[head[31] as number] ?? 'unknown',
      payloadBytes: fields(head, 12, 4).getUint32(0),
    }),
    kind: type === 'ramdisk' ? 'ramdisk' : 'kernel',
  }
}

/** A flattened image tree of U-Boot: kernels, ramdisks and device trees in one file. */
export function readFit(head: Uint8Array): GuestContent | undefined {
  if (!stands(head, '\xd0\x0d\xfe\xed') || !latin1(head, 0, 8192).includes('images\0')) return undefined
  return kernel('fit', 'image tree', 'd0 0d fe ed at 0, and images', { bytes: fields(head, 4, 4).getUint32(0) })
}

/** A kernel of s390x, which machines of that kind load at address 0. */
export function readS390Image(head: Uint8Array): GuestContent | undefined {
  if (!stands(head, 'S390EP', 0x10008)) return undefined
  return kernel('linux-kernel', 'Image', `"S390EP" at ${0x10008}`, { architecture: 's390x' })
}

const peMachines: Readonly<Record<number, string>> = {
  332: 'i386',
  448: 'arm',
  450: 'arm',
  34404: 'x86_64',
  43620: 'arm64',
  20580: 'riscv',
  25188: 'loongarch64',
}
const efiApplication = 10
const mostSections = 32

function peMachine(head: Uint8Array): string | undefined {
  const at = fields(head, 0x3c, 4).getUint32(0, true)
  return stands(head, 'PE\0\0', at) ? peMachines[fields(head, at + 4, 2).getUint16(0, true)] : undefined
}

/** A program for UEFI. One that has a section `.linux` is a unified kernel image: kernel, ramdisk and command line in one file. */
export function readEfiProgram(head: Uint8Array): GuestContent | undefined {
  if (!hasEfi(head)) return undefined
  const at = fields(head, 0x3c, 4).getUint32(0, true)
  const coff = fields(head, at + 4, 20)
  const optionalBytes = coff.getUint16(16, true)
  const optional = fields(head, at + 24, 70)
  if (optional.getUint16(68, true) !== efiApplication) return undefined
  const sections: { name: string; offset: number; length: number }[] = []
  for (let index = 0; index < Math.min(coff.getUint16(2, true), mostSections); index++) {
    const start = at + 24 + optionalBytes + index * 40
    if (start + 40 > head.length) break
    const view = fields(head, start, 40)
    sections.push({
      name: name(latin1(head, start, start + 8)),
      offset: view.getUint32(20, true),
      length: view.getUint32(8, true),
    })
  }
  const unified = sections.some((section) => section.name === '.linux')
  const textOf = (wanted: string): string | undefined => {
    const section = sections.find((each) => each.name === wanted)
    return section === undefined ? undefined : nameAt(head, section.offset, Math.min(section.length, 1024))
  }
  return kernel('efi-program', unified ? 'unified kernel image' : 'application', '"PE" for UEFI', {
    architecture: peMachines[coff.getUint16(0, true)],
    sections: sections.map((section) => section.name),
    ...(unified ? { release: textOf('.uname'), commandLine: textOf('.cmdline') } : {}),
  })
}
