/** Creating images: the size is checked and rounded here, once for every format. */
import { defaultLimits, type Limits, MoraineError } from '../core/index.ts'
import type { CreateTarget, DiskFormat, NewBacking } from '../format/format.ts'
import type { OptionValues } from '../format/options.ts'

const sector = 512n

/** What a new image shall be. */
export interface CreateRequest {
  /** Virtual size in bytes; rounded up to whole sectors of 512, as QEMU does. */
  size: bigint
  /** Validated options of the format (`readOptions`). */
  options?: OptionValues | undefined
  /** The file under the new one, by the name that is recorded. */
  backing?: NewBacking | undefined
  limits?: Partial<Limits> | undefined
  signal?: AbortSignal | undefined
}

/** What was created: the virtual size in bytes, and every option as it took effect, in the order QEMU prints them. */
export interface Created {
  size: number
  options: OptionValues
}

/** Checks a creation without touching anything: returns the size in bytes, rounded up, and the resolved options.
 *  @throws MoraineError `unsupported` when the format cannot be created, `invalid` when size or options break its rules, `limit` when
 *  the size passes `Limits.virtualSize`. */
export function resolveCreation(format: DiskFormat, request: CreateRequest): Created {
  if (format.create === undefined) {
    throw new MoraineError('unsupported', `Format driver '${format.name}' does not support image creation`, {
      format: format.name,
    })
  }
  const size = checkedSize(format, request.size, { ...defaultLimits, ...request.limits })
  const given = request.options ?? {}
  return { size, options: format.resolveOptions?.(request.size, given, request.backing) ?? given }
}

/** Writes a new, empty image into `target`, which the caller opens afterwards.
 *  @throws MoraineError as `resolveCreation`; `io` and `cancelled` while writing. */
export async function createImage(target: CreateTarget, format: DiskFormat, request: CreateRequest): Promise<Created> {
  const created = resolveCreation(format, request)
  const { backing } = request
  await format.create?.(target, {
    size: created.size,
    options: created.options,
    backing: backing && recordedBacking(backing),
    signal: request.signal,
  })
  return created
}

/** A backing file as it is recorded: the name of its format must say something to QEMU, too. */
export function recordedBacking<Backing extends { format?: string | undefined }>(backing: Backing): Backing {
  return backing.format === 'vhd' ? { ...backing, format: 'vpc' } : backing
}

function checkedSize(format: DiskFormat, size: bigint, limits: Limits): number {
  if (size < 0n || size > 0x7fff_ffff_ffff_ffffn) {
    throw new MoraineError('invalid', 'Invalid image size specified. Must be between 0 and 9223372036854775807.', {
      format: format.name,
      field: 'size',
      value: size,
    })
  }
  const rounded = ((size + sector - 1n) / sector) * sector
  if (rounded > BigInt(limits.virtualSize)) {
    throw new MoraineError('limit', `The image size is too large for file format '${format.name}'`, {
      format: format.name,
      field: 'size',
      value: size,
      rule: `at most ${limits.virtualSize} bytes`,
    })
  }
  return Number(rounded)
}
