/** Kernels of every kind that is known, by their first bytes; packed ones by what they unpack to. */
import { unpackBeginning } from '../../codec/beginning.ts'
import type { GuestContent } from '../content.ts'
import { type Reading, readBytes, readingHead, regionAt } from '../reading.ts'
import { readElf } from './elf.ts'
import {
  readArm64Image,
  readArmZImage,
  readEfiProgram,
  readFit,
  readRiscvImage,
  readS390Image,
  readUImage,
  readZboot,
} from './image.ts'
import { packingOf } from './packing.ts'
import { readX86Kernel } from './x86.ts'

/** Packed bytes that are looked at, and unpacked ones. */
const packedBytes = 256 * 1024
const unpackedBytes = 128 * 1024

/** Reads a kernel that is not packed as a whole; undefined where the bytes are none. */
export function* readPlainKernel(head: Uint8Array): Reading<GuestContent | undefined> {
  return (
    (yield* readX86Kernel(head)) ??
    readArm64Image(head) ??
    readRiscvImage(head) ??
    readZboot(head) ??
    (yield* readElf(head)) ??
    readArmZImage(head) ??
    readUImage(head) ??
    readFit(head) ??
    readS390Image(head) ??
    readEfiProgram(head)
  )
}

/** Reads a kernel, also one that is packed with what Linux or boot loaders unpack (an arm64 `Image.gz`, say); undefined where the bytes are none. */
export function* readKernel(): Reading<GuestContent | undefined> {
  const head = yield* regionAt(0, readingHead)
  const packing = packingOf(head)
  if (packing === undefined) return yield* readPlainKernel(head)
  const part = unpackBeginning(packing, yield* regionAt(0, packedBytes), unpackedBytes)
  if (part === undefined) return undefined
  const inside = readBytes(readPlainKernel(part.bytes), part.bytes)
  if (inside === undefined) return undefined
  return { ...inside, evidence: `${inside.evidence}, packed with ${packing}`, facts: { ...inside.facts, packing } }
}
