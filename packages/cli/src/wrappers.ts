/** Compressed files: opened as what is inside, and written on request. */
import { existsSync } from 'node:fs'
import { extname } from 'node:path'
import {
  allFormats,
  type ByteSource,
  MoraineError,
  type RunOptions,
  type StreamCodecs,
  type StreamPlan,
  type UnwrapOptions,
  unwrapSource,
  wrappingOf,
  xzStream,
} from '@moraine/engine'
import { nodeStreamCodecs, openSpool } from '@moraine/engine/node'
import { Failure } from './failure.ts'
import { sizeText } from './output/size.ts'
import type { Persona } from './persona.ts'
import { untrustedLimits } from './untrusted.ts'
import type { Context } from './verb.ts'

async function loadXz() {
  try {
    return await import('@napi-rs/lzma')
  } catch (error) {
    throw new MoraineError('unsupported', 'xz needs the package @napi-rs/lzma, which does not load here', {
      cause: error,
    })
  }
}

let codecs: StreamCodecs | undefined

/** All codecs for whole files that the command has. */
export function streamCodecs(): StreamCodecs {
  codecs ??= { ...nodeStreamCodecs, xz: xzStream(loadXz) }
  return codecs
}

/** Splits `FILE#MEMBER`, where there is no file of the whole name and one of the first part. */
export function splitMember(path: string, persona: Persona): { path: string; member?: string } {
  if (!persona.wrappers || !path.includes('#')) return { path }
  const url = /^(https?:\/\/[^#]*)#(.*)$/s.exec(path)
  if (url !== null) return { path: url[1] ?? path, member: url[2] ?? '' }
  if (existsSync(path)) return { path }
  for (let at = path.lastIndexOf('#'); at > 0; at = path.lastIndexOf('#', at - 1)) {
    if (existsSync(path.slice(0, at))) return { path: path.slice(0, at), member: path.slice(at + 1) }
  }
  return { path }
}

/** What is left of a path into a file once it was unwrapped: a zip takes the name of its member off. */
export function memberBehind(unwrapped: ByteSource, path: string | undefined): string | undefined {
  const taken = wrappingOf(unwrapped)?.member
  if (path === undefined || taken === undefined) return path
  return path.startsWith(`${taken}#`) ? path.slice(taken.length + 1) : undefined
}

/** How a packed file called so is unwrapped. */
export function unwrapOptions(context: Context, name: string, member?: string): UnwrapOptions {
  return {
    // Looked at only where there is something to unpack (see `formatsInOrder`).
    get formats() {
      return allFormats
    },
    containers: [
      { probe: ({ head }) => (beginsAsContainer(head) ? { score: 50, evidence: 'its beginning' } : undefined) },
    ],
    get codecs() {
      return streamCodecs()
    },
    member,
    limits: context.untrusted === undefined ? undefined : untrustedLimits,
    signal: context.signal,
    spool: () => {
      note(context, `'${name}' is kept unpacked in a temporary file, as it is not read from front to back.`)
      return openSpool()
    },
    onLongRead: (wrapper) => {
      note(context, `${wrapper} does not say for certain how much it holds: all of '${name}' is read to find out.`)
    },
  }
}

/** What is inside a file, or the file itself; `source` belongs to the result. `member` is one of a zip, or what is in that.
 *  @throws MoraineError as `unwrapSource`; `unsupported` when it is to be written. */
export async function unwrap(
  context: Context,
  source: ByteSource,
  { member, writes }: { member?: string | undefined; writes: boolean },
): Promise<ByteSource> {
  const inner = await unwrapSource(source, unwrapOptions(context, source.name, member))
  const wrapping = wrappingOf(inner)
  if (wrapping === undefined || !writes) return inner
  await inner.close()
  throw new MoraineError('unsupported', `it is packed with ${wrapping.wrapper} and cannot be written in place`, {
    path: source.name,
    hint: 'Unpack it first. With -f raw it is taken as it stands.',
  })
}

const headBytes = 512

/** Whether a file may be a container, by its first bytes: a tar, or XML. What it really is, is found out by what is loaded then. (Turning all of them into a text costs a start
 *  more than the rest of it.) */
export function beginsAsContainer(head: Uint8Array): boolean {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength)
  if (bytes.toString('latin1', 257, 262) === 'ustar') return true
  let at = bytes.toString('latin1', 0, 3) === '\xef\xbb\xbf' ? 3 : 0
  while (at < headBytes && isSpace(head[at])) at++
  return /^<[?!a-zA-Z]$/.test(bytes.toString('latin1', at, at + 2))
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0xa0 || (byte !== undefined && byte >= 9 && byte <= 13)
}

function note({ err, persona }: Context, text: string): void {
  err.write(`${persona.name}: note: ${text}\n`)
}

/** What stands around an image, for `info`: `gzip, 12.3 MiB`, and how its size is known. */
export function wrappingText(source: ByteSource): string | undefined {
  const wrapping = wrappingOf(source)
  if (wrapping === undefined) return undefined
  const member = wrapping.member === undefined ? '' : ` (member ${wrapping.member})`
  const known =
    wrapping.sizeFrom === 'read' ? 'all of it was read to know the size inside' : 'the size inside is what it says'
  return `${wrapping.wrapper}${member}, ${sizeText(wrapping.packedSize)} (${wrapping.packedSize} bytes); ${known}`
}

/** What a target can be packed with: by name, and by the ends of file names. */
const written = {
  gzip: { names: ['gzip', 'gz'], extensions: ['.gz'] },
  xz: { names: ['xz'], extensions: ['.xz'] },
  zstd: { names: ['zstd', 'zst'], extensions: ['.zst'] },
} as const

/** What a target is packed with. */
export type TargetWrapping = keyof typeof written

/** The argument of `--wrap`.
 *  @throws Failure */
export function readWrap(text: string): TargetWrapping | 'none' {
  if (text === 'none') return 'none'
  for (const [name, { names }] of Object.entries(written)) {
    if ((names as readonly string[]).includes(text)) return name as TargetWrapping
  }
  throw new Failure(`Invalid wrapper '${text}': one of gz, xz, zst or none is expected`)
}

/** What a target is packed with: what was asked for, or what its name ends in. */
export function targetWrapping(
  name: string,
  asked: TargetWrapping | 'none' | undefined,
  persona: Persona,
): TargetWrapping | undefined {
  if (asked === 'none' || !persona.wrappers) return undefined
  // An export keeps its size, whatever its name ends in.
  if (asked !== undefined || persona.readName(name).kind === 'node') return asked
  const extension = extname(name)
  for (const [wrapping, { extensions }] of Object.entries(written)) {
    if ((extensions as readonly string[]).includes(extension)) return wrapping as TargetWrapping
  }
  return undefined
}

/** The stream, packed; its progress is that of what is packed. */
export function packStream(
  stream: StreamPlan,
  wrapping: TargetWrapping | undefined,
  onProgress: RunOptions['onProgress'],
): StreamPlan {
  const pack = wrapping === undefined ? undefined : streamCodecs()[wrapping]?.pack
  if (pack === undefined) return stream
  return { length: undefined, chunks: (signal) => pack(countChunks(stream, onProgress, signal), stream.length) }
}

async function* countChunks(
  stream: StreamPlan,
  onProgress: RunOptions['onProgress'],
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let done = 0
  for await (const chunk of stream.chunks(signal)) {
    yield chunk
    done += chunk.length
    if (stream.length !== undefined) onProgress?.({ done, total: stream.length })
  }
}
