/** The contract of a disk format: a plain value in a list that the caller passes. Nothing registers itself. */
import type {
  ByteSource,
  ByteStore,
  Codecs,
  CryptoLibrary,
  Disk,
  Encryption,
  Gate,
  GateRole,
  Limits,
  RunOptions,
  Secrets,
  WritableDisk,
} from '../core/index.ts'
import type { OptionSpec, OptionValues } from './options.ts'

/** What a format can do; drives help, API errors and greyed-out buttons. */
export interface Capabilities {
  read: boolean
  write: boolean
  create: boolean
  check: boolean
  repair: boolean
  resize: boolean
  snapshots: boolean
  backing: boolean
  compress: boolean
  measure: boolean
}

/** What a probe may look at: the first bytes (up to 128 KiB) and the last 1536 of a source. */
export interface ProbeWindow {
  name: string
  size: number
  head: Uint8Array
  tail: Uint8Array
}

/** A probe's answer: how sure (0 to 100; 1 is raw's "nothing else fits") and why. */
export interface ProbeVerdict {
  score: number
  evidence: string
  /** Only the last bytes tell it. QEMU looks at the first ones alone. */
  tail?: true
}

/** Takes a warning about an image. `advice`: the image is read as any other, and QEMU has nothing to say about it. `hint`: what to do, in QEMU's words. */
export type ImageWarning = (message: string, more?: 'advice' | { hint: string }) => void

/** Which of its two sizes a VHD has, whoever made it: that of its geometry or the one in its footer. */
export type VhdSizeRule = 'chs' | 'current_size'

/** How a disk is opened. */
export interface OpenContext {
  mode: 'read' | 'write'
  /** `use` reads guest content; `info` opens no other file; `check` opens what is damaged too, so that `check` can look at it. */
  purpose: 'use' | 'info' | 'check'
  /** Whether the disk under this one (backing file, parent) is opened with it. */
  parents: boolean
  /** The gate has a backing file for this image, also where it names none: it is asked for one without a name then. Only `qcow`, `qcow2` and `qed` look at it. */
  givesBacking?: boolean | undefined
  gate: Gate
  limits: Limits
  codecs: Codecs
  /** Cryptography for images that are encrypted; such an image is refused without. */
  crypto?: CryptoLibrary | undefined
  /** The passwords and keys at hand. */
  secrets?: Secrets | undefined
  /** Which of them opens this image; the disks under it are told by themselves. */
  encryption?: Encryption | undefined
  /** Window of a raw image, in bytes. Only `raw` looks at it. */
  window?: { offset?: number; size?: number } | undefined
  /** How large a VHD is; by its creator when absent. Only `vhd` looks at it. */
  vhdSize?: VhdSizeRule | undefined
  /** Warnings for people: something is odd and was dealt with. */
  warn: ImageWarning
  /** Opens the disk under this one (`backing` or `parent`), read-only, by the name recorded in the image. Given by `openDisk`, which keeps
   *  count of the depth and sees loops. `format` undefined means probe. */
  openParent(request: { name: string; format?: string | undefined; role: GateRole }): Promise<Disk>
  /** Opens a further file of this image (a data file, an extent) through the gate, in the context's mode or only for reading. */
  openFile(request: { name: string; role: GateRole; mode?: 'read' | 'write' | undefined }): Promise<ByteSource>
}

/** Where a new image is written. */
export interface CreateTarget {
  /** Empty, or a device, opened for writing. */
  store: ByteStore
  /** Creates and opens a further file of the image, through the gate; `role` decides what a relative name is relative to. */
  sibling(name: string, role?: GateRole): Promise<ByteStore>
  /** Opens the disk that the new one shall stand over, for its facts: where a format records its parent's identity and the plan brings no opened disk. */
  openParent?(backing: { name: string; format?: string | undefined }): Promise<Disk>
  /** Cryptography and passwords, for images that shall be encrypted. */
  crypto?: CryptoLibrary | undefined
  secrets?: Secrets | undefined
}

/** The disk under a new image. */
export interface NewBacking {
  /** Its name as it is recorded, relative to the new image's folder unless it is absolute. */
  name: string
  format?: string | undefined
  /** That file opened, where the caller has it. */
  disk?: Disk | undefined
  /** Where the file lies, for formats that record more than one name, and when it was changed last (seconds since 1970). What is absent is not recorded. */
  place?: { absolute: string; relative: string; modifiedSeconds: number } | undefined
}

/** What a new image shall be. `size` is the virtual size in bytes, already bounded by `Limits`. */
export interface CreatePlan {
  size: number
  options: OptionValues
  backing?: NewBacking | undefined
  signal?: AbortSignal | undefined
}

/** What `check` found, in QEMU's terms. Counters that a format does not know are absent. */
export interface CheckResult {
  checkErrors: number
  leaks: number
  corruptions: number
  leaksFixed: number
  corruptionsFixed: number
  imageEndOffset?: number | undefined
  totalClusters?: number | undefined
  allocatedClusters?: number | undefined
  fragmentedClusters?: number | undefined
  compressedClusters?: number | undefined
}

/** How `check` runs. A repair wants a disk opened for writing with purpose `check`. */
export interface CheckOptions extends RunOptions {
  repair: 'none' | 'leaks' | 'all'
  /** Go on where QEMU stops at the first fault, and look at what it does not. */
  thorough?: boolean | undefined
  /** Each finding, in QEMU's words where it has them. `error` goes to standard error in QEMU, `note` to standard output; `failure` says why the
   *  check cannot be done, and stands behind the program's name there. */
  report(line: string, level: 'error' | 'note' | 'failure'): void
}

/** What a target file would need. Bytes. */
export interface Measure {
  required: number
  fullyAllocated: number
  /** The sizes are bounds: how much less it is shows when the data is compressed. */
  atMost?: true | undefined
  /** Bytes for the bitmaps of the source, where both sides can hold them. */
  bitmaps?: number | undefined
}

/** What `measure` is asked: a size alone, or a source disk whose data would be written. */
export interface MeasureRequest extends RunOptions {
  /** Virtual size in bytes; ignored when there is a source. */
  size: number
  source?: Disk | undefined
  options: OptionValues
  /** The passwords at hand: that the one for an encrypted image is there is checked, as QEMU does. */
  secrets?: Secrets | undefined
}

/** What is changed in an image that is there. */
export interface AmendOptions extends RunOptions {
  /** By the names of the format's `amendOptions`. */
  options: OptionValues
}

/** A change of the passwords that open an image, in the terms of QEMU's `amend`. */
export interface KeyChange {
  /** `active` adds a password, `inactive` erases. */
  state: 'active' | 'inactive' | undefined
  /** Id of the secret that is added. */
  newSecret?: string | undefined
  /** Id of the secret whose slots are erased. */
  oldSecret?: string | undefined
  /** Which slot, 0 to 7; found out when absent. */
  keyslot?: number | undefined
  /** Milliseconds that opening the new slot shall take; 2000 when absent. */
  iterTime?: number | undefined
  /** Lose the last password, or write over one, if that is what is asked for. */
  force?: boolean | undefined
}

/** What changing passwords needs. */
export interface KeyChangeContext {
  crypto?: CryptoLibrary | undefined
  secrets?: Secrets | undefined
}

/** A conversion that is written front to back, to a pipe or a socket. */
export interface StreamPlan {
  /** Exact length in bytes, where it is known before the first byte (always, unless units are compressed). */
  length: number | undefined
  chunks(signal?: AbortSignal): AsyncIterable<Uint8Array>
}

/** An image that holds nothing but packed units, written front to back while a disk is copied into it. */
export interface PackedStream {
  /** Takes packed units in guest order (`packedUnit`, `packedCodec`, `writePacked`; `write` for units that did not shrink); closing it ends the stream. */
  target: WritableDisk
  /** What is written, once. */
  chunks: AsyncIterable<Uint8Array>
  /** Ends both sides with an error. */
  fail(error: unknown): void
}

/** A disk format. */
export interface DiskFormat {
  readonly name: string
  readonly aliases: readonly string[]
  readonly extensions: readonly string[]
  readonly can: Capabilities
  /** The image is the disk, byte for byte: whoever reads the disk from front to back so reads the image. */
  readonly sequential?: boolean
  /** Creation options, in QEMU's order. */
  readonly options: readonly OptionSpec[]
  /** Looks at head and tail; never throws. Undefined: not this format. */
  probe(window: ProbeWindow): ProbeVerdict | undefined
  /** Opens an image; with `context.mode` `write` the result is a `WritableDisk`. The disk owns `source` from then on, also when this fails. */
  open(source: ByteSource, context: OpenContext): Promise<Disk | WritableDisk>
  /** Writes a new, empty image. The caller opens it afterwards. Returns the options as they took effect, in QEMU's order, for the
   *  "Formatting" line. */
  create?(target: CreateTarget, plan: CreatePlan): Promise<void>
  /** The options of a creation with defaults filled in, in the order QEMU prints them; checks that they fit together, touching nothing.
   *  @throws MoraineError `invalid`. */
  resolveOptions?(
    size: bigint,
    options: OptionValues,
    backing?: { name: string; format?: string | undefined },
  ): OptionValues
  /** Plans `disk` as an image of this format written front to back; allocation follows the extents of `disk`. */
  stream?(disk: Disk, options: OptionValues): Promise<StreamPlan>
  /** Plans an image of `size` bytes for which units are packed while it is streamed; undefined where neither these options nor `compress` ask for them, so that
   *  `stream` serves. What it returns begins the stream, where the format must know all lengths first after one `copy` into a target that only measures.
   *  @throws MoraineError as `stream`. */
  streamPacked?(
    size: number,
    options: OptionValues,
    compress: boolean,
  ): Promise<((copy: (target: WritableDisk) => Promise<void>) => Promise<PackedStream>) | undefined>
  check?(disk: Disk, options: CheckOptions): Promise<CheckResult>
  /** Options that can be changed in an image that is there; key slots apart. */
  readonly amendOptions?: readonly OptionSpec[]
  /** Changes them, in an image opened for writing, which is closed afterwards. */
  amend?(disk: WritableDisk, options: AmendOptions): Promise<void>
  /** Changes key slots of an encrypted disk that was opened for writing with its key. */
  amendKeys?(disk: Disk, change: KeyChange, context: KeyChangeContext): Promise<void>
  measure?(request: MeasureRequest): Promise<Measure>
}

/** Finds a format by name or alias. */
export function findFormat(formats: readonly DiskFormat[], name: string): DiskFormat | undefined {
  return formats.find((format) => format.name === name || format.aliases.includes(name))
}
