/** What is pushed: a file as it is, or converted while it goes out; looked at first. */
import { type DiskFormat, type Inspection, inspectSource, planConversion, type StreamPlan } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { Failure, failureFrom } from '../failure.ts'
import { newFormatNamed } from '../formats.ts'
import { openImage, pathOf } from '../open.ts'
import type { Context } from '../verb.ts'

/** Bytes to be sent. */
export interface PushSource {
  /** Exact, where it is known beforehand. */
  readonly length: number | undefined
  /** What Glance calls the format; undefined where it has no name for it. */
  readonly diskFormat: string | undefined
  /** The same bytes each time, from `start` on. */
  chunks(start: number, signal: AbortSignal | undefined): AsyncIterable<Uint8Array>
  close(): Promise<void>
}

/** What Glance calls formats that the engine calls otherwise. */
const glanceNames: Readonly<Record<string, string>> = { parallels: 'ploop' }
const glanceFormats = new Set(['raw', 'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso', 'ploop'])
const chunkBytes = 1024 * 1024

/** Looks at a file by its head, its tail and what formats ask for.
 *  @throws Failure when it cannot be read, and when it is not safe unless `unsafe`. */
export async function inspectFile(context: Context, name: string, unsafe: boolean): Promise<Inspection> {
  try {
    const source = await openFile(pathOf(name, context.persona))
    try {
      const inspection = await inspectSource(source, { signal: context.signal })
      if (inspection.verdict === 'failed' && !unsafe) throw unsafeFailure(name, inspection)
      return inspection
    } finally {
      await source.close()
    }
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not inspect '${name}': `)
  }
}

function unsafeFailure(name: string, inspection: Inspection): Failure {
  const { checks, findings } = inspection
  const all = [
    ...checks,
    ...findings.flatMap((finding) => [
      ...finding.checks,
      ...(finding.inner?.findings.flatMap((inner) => inner.checks) ?? []),
    ]),
  ]
  const failed = all.filter(({ verdict }) => verdict === 'failed')
  const lines = failed.map((check) => `  ${check.name}: ${check.sentence}`)
  return new Failure(`'${name}' is not safe, so it is not pushed`, {
    hint: `${lines.join('\n')}\nWith --unsafe it is pushed all the same; the service may refuse it.`.trimStart(),
  })
}

/** What Glance calls a format that was found. A partition table or a file system alone is raw; what is packed or holds other files has no name. */
export function diskFormatOf({ format, findings }: Inspection): string | undefined {
  const found = findings.find((finding) => finding.format === format)
  if (found === undefined || found.kind === 'partitions' || found.kind === 'content') return 'raw'
  return glanceName(format)
}

function glanceName(format: string): string | undefined {
  const name = glanceNames[format] ?? format
  return glanceFormats.has(name) ? name : undefined
}

/** A file as it stands. */
export async function plainSource(context: Context, name: string, inspection: Inspection): Promise<PushSource> {
  const source = await openFile(pathOf(name, context.persona))
  return {
    length: source.size,
    diskFormat: diskFormatOf(inspection),
    async *chunks(start, signal) {
      for (let at = start; at < source.size; at += chunkBytes) {
        // A buffer of its own for each: the one before may still be on its way.
        const bytes = Buffer.allocUnsafeSlow(Math.min(chunkBytes, source.size - at))
        await source.read(at, bytes, signal)
        yield bytes
      }
    },
    close: () => source.close(),
  }
}

/** What a file holds, in another format; nothing is kept on disk for it.
 *  @throws Failure for a format that cannot be written front to back. */
export async function convertedSource(
  context: Context,
  name: string,
  formatName: string,
  compress: boolean,
): Promise<PushSource> {
  let format: DiskFormat
  try {
    format = newFormatNamed(formatName, context.persona)
  } catch (error) {
    throw failureFrom(error, context.persona, '--convert-to: ')
  }
  const disk = await openImage(context, name, { use: 'source' })
  try {
    const plan = await planConversion(disk, { format, compress })
    for (const { reason } of plan.losses) context.err.write(`${context.persona.name}: note: ${reason}\n`)
    const stream = await plan.stream()
    return {
      length: stream.length,
      diskFormat: glanceName(format.name),
      // A stream serves once.
      chunks: (start, signal) => skipping(() => plan.stream(), start, signal),
      close: () => disk.close(),
    }
  } catch (error) {
    await disk.close()
    throw failureFrom(error, context.persona, `Could not convert '${name}': `)
  }
}

async function* skipping(
  open: () => Promise<StreamPlan>,
  start: number,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const stream = await open()
  let at = 0
  for await (const chunk of stream.chunks(signal)) {
    const skipped = Math.max(0, start - at)
    // The engine uses its buffers again.
    if (skipped < chunk.length) yield Buffer.from(chunk.subarray(skipped))
    at += chunk.length
  }
}
