/** One malformed image: how it is made, and what the engine must answer. */
import type { ErrorKind } from '@moraine/engine'
import { buildQcow2 } from '../../support/qcow2-builder.ts'
import type { HeaderField, Qcow2Image } from '../../support/qcow2-image.ts'
import type { Qcow2Spec } from '../../support/qcow2-spec.ts'

/** An error: its kind and its field. */
export type Refusal = readonly [kind: ErrorKind, field: string | undefined]

/** A row of the table. What is not said must work, and say what QEMU says. */
export interface Row {
  name: string
  /** Files by name in one folder; the first is the image that is opened. */
  make(): Record<string, Qcow2Image | Uint8Array>
  /** Opening for use is refused; so are reading, mapping and converting. */
  open?: Refusal
  /** What `info` answers, where that is not what opening answers. */
  info?: Refusal | 'works'
  /** What `check` answers, where that is not what opening answers. */
  check?: Refusal | 'works'
  /** It opens, but its content cannot be read (nor converted). */
  read?: Refusal
  /** What `map` answers, where that is not what reading answers. */
  map?: Refusal | 'works'
  /** Reading an internal snapshot is refused. */
  snapshots?: Refusal
  /** Opening for writing, or the writes, are refused. */
  write?: Refusal
  /** Where the engine and QEMU part, and why; by operation. `all`: QEMU cannot be asked. */
  differs?: { open?: string; read?: string; check?: string; all?: string }
}

/** The image that most rows bend: 4 KiB clusters, 1 MiB, a few clusters of each sort. */
export const plain: Qcow2Spec = {
  clusterBits: 12,
  clusters: {
    0: { kind: 'data', bytes: 0x11 },
    1: { kind: 'compressed', bytes: 0x22 },
    2: { kind: 'zero' },
    3: { kind: 'zero-allocated', bytes: 0x33 },
    5: { kind: 'data', bytes: 0x55 },
  },
}

/** The same with subclusters. */
export const extended: Qcow2Spec = {
  clusterBits: 14,
  extendedL2: true,
  clusters: {
    0: { kind: 'data', bytes: 0x11 },
    1: { kind: 'subclusters', bytes: 0x22, alloc: 0xff, zero: 0xff00 },
    2: { kind: 'compressed', bytes: 0x33 },
  },
}

/** Makes `plain` (or another image) and bends it. */
export function bent(bend: (image: Qcow2Image) => void, spec: Qcow2Spec = plain): Row['make'] {
  return () => {
    const image = buildQcow2(spec)
    bend(image)
    return { 'image.qcow2': image }
  }
}

/** Makes `plain` (or another image) with one header field set. */
export function withField(field: HeaderField, value: bigint, spec: Qcow2Spec = plain): Row['make'] {
  return bent((image) => image.set(field, value), spec)
}
