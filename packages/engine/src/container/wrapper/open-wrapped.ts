/** Opens what is inside a packed file. */
import { defaultStreamCodecs, openSpool } from '#platform'
import {
  type ByteSource,
  type ByteStore,
  defaultLimits,
  type Limits,
  MoraineError,
  type StreamCodecs,
} from '../../core/index.ts'
import type { DiskFormat } from '../../format/format.ts'
import { sliceSource } from '../../source/index.ts'
import { detectWrapper, signatureBytes, type WrapperName } from './detect.ts'
import { statedSize } from './stated-size.ts'
import { StoredMember } from './stored-member.ts'
import { type WrappedPlan, WrappedSource } from './wrapped-source.ts'
import { chooseMember, memberOffset, readZipMembers } from './zip.ts'

/** How a packed file is opened. */
export interface UnwrapOptions {
  /** The formats that may be inside. Those that are recognised by their beginning are read here and there, so what is inside is kept unpacked. */
  formats?: readonly DiskFormat[] | undefined
  /** The containers that may be inside, which are read here and there too. */
  containers?: readonly Pick<DiskFormat, 'probe'>[] | undefined
  /** Default: those of the platform. xz is not among them (see `xzStream`). */
  codecs?: StreamCodecs | undefined
  limits?: Partial<Limits> | undefined
  /** The member of a zip; what follows a `#` behind its name is left to the caller. Default: the only one. */
  member?: string | undefined
  /** Makes an empty store for what must be kept unpacked. Default in Node: a temporary file without a name. */
  spool?: (() => Promise<ByteStore>) | undefined
  /** Told before all of a file is read to find out how much it holds. */
  onLongRead?: ((wrapper: string) => void) | undefined
  signal?: AbortSignal | undefined
}

const headBytes = 128 * 1024
const mostWrappers = 4

/** What is inside a file that is packed with gzip, xz, bzip2, zstd, LZ4 or zip, also where these stand around one another; the source itself where it is not packed. It is
 *  opened by its first bytes, whatever its name. `source` belongs to the result from then on, also when this fails.
 *
 *  Its size is what the wrapper says, or found by reading all of it where the wrapper does not say (gzip, bzip2, LZ4, some zstd). Read from front to back it is unpacked on the way;
 *  otherwise it is unpacked into a temporary file. A wrong checksum, a wrong size, or something else behind the end are errors of the read that comes upon them: at the latest, that of the
 *  last byte.
 *  @throws MoraineError `corrupt`; `limit`; `unsupported` for a codec that is not at hand; `invalid` or `missing` for the choice of a member; `io`. */
export async function unwrapSource(source: ByteSource, options: UnwrapOptions = {}): Promise<ByteSource> {
  let inner = source
  try {
    for (let depth = 0; ; depth++) {
      const head = new Uint8Array(Math.min(signatureBytes, inner.size))
      await inner.read(0, head, options.signal)
      const wrapper = detectWrapper(head)
      if (wrapper === undefined) return inner
      if (depth === mostWrappers) {
        throw new MoraineError('limit', 'too many wrappers around one another', {
          path: source.name,
          field: 'wrappers',
          rule: `at most ${mostWrappers}`,
        })
      }
      inner = await openOne(inner, wrapper, options)
    }
  } catch (error) {
    await inner.close()
    throw error
  }
}

async function openOne(source: ByteSource, wrapper: WrapperName, options: UnwrapOptions): Promise<ByteSource> {
  const limits: Limits = { ...defaultLimits, ...options.limits }
  const { signal } = options
  const facts = { wrapper, packedSize: source.size }
  if (wrapper !== 'zip') {
    const packed = {
      source,
      codec: codecNamed(source, wrapper, options),
      wrapper,
      outermostSize: outermostSize(source),
      size: await statedSize(source, wrapper, limits, signal),
    }
    return openPacked(options, { packed, facts, limits, owned: source })
  }
  const member = chooseMember(source, await readZipMembers(source, limits, signal), options.member)
  const start = await memberOffset(source, member, signal)
  const part = sliceSource(source, start, member.packedSize)
  const named = { ...facts, member: member.name }
  if (member.method === 0) return new StoredMember(source, part, { ...named, sizeFrom: 'stated' })
  const packed = {
    source: part,
    codec: codecNamed(source, 'deflate', options),
    wrapper,
    outermostSize: outermostSize(source),
    size: member.size,
    checksum: member.checksum,
  }
  return openPacked(options, { packed, facts: named, limits, owned: source })
}

function outermostSize(source: ByteSource): number {
  return source instanceof WrappedSource ? source.outermostSize : source.size
}

function codecNamed(source: ByteSource, name: keyof StreamCodecs, { codecs }: UnwrapOptions) {
  const codec = (codecs ?? defaultStreamCodecs)[name]
  if (codec !== undefined) return codec
  throw new MoraineError('unsupported', `there is no codec for ${name} here`, { path: source.name, field: 'codec' })
}

function openPacked(
  options: UnwrapOptions,
  plan: Pick<WrappedPlan, 'packed' | 'facts' | 'limits' | 'owned'>,
): Promise<ByteSource> {
  const { onLongRead, signal, formats = [], containers = [], spool = openSpool } = options
  const { wrapper } = plan.packed
  return WrappedSource.open(
    {
      ...plan,
      spool,
      signal,
      onLongRead: onLongRead === undefined ? undefined : () => onLongRead(wrapper),
      keep: (head) =>
        formats.some((format) => format.sequential !== true && isKnownByHead(format, head, plan.owned.name)) ||
        containers.some((container) => isKnownByHead(container, head, plan.owned.name)) ||
        isZip(head),
    },
    headBytes,
  )
}

function isKnownByHead(format: Pick<DiskFormat, 'probe'>, head: Uint8Array, name: string): boolean {
  const window = { name, size: Number.MAX_SAFE_INTEGER, head, tail: new Uint8Array(0) }
  return (format.probe(window)?.score ?? 0) > 1
}

/** The directory of a zip stands at its end. */
function isZip(head: Uint8Array): boolean {
  return detectWrapper(head) === 'zip'
}
