/** Inspecting in tests: the same bytes by random access and as a stream, which must say the same. */
import { isDeepStrictEqual } from 'node:util'
import {
  type CheckName,
  countingSource,
  type Inspection,
  inspectSource,
  MemoryStore,
  StreamInspector,
} from '@moraine/engine'
import { expect } from 'vitest'

/** Inspects bytes both ways, the stream in pieces of `piece` bytes.
 *  @throws when the two differ, or more than 2 MiB were read. */
export async function look(data: Uint8Array, piece = 65_521): Promise<Inspection> {
  const { source, counts } = countingSource(MemoryStore.from(data))
  const found = await inspectSource(source)
  expect(counts.bytesRead).toBeLessThanOrEqual(2 * 1024 * 1024)
  const streamed = lookStream(data, piece)
  if (!isDeepStrictEqual(streamed, found)) expect(streamed).toEqual(found)
  return found
}

/** Inspects bytes as a stream. */
export function lookStream(data: Uint8Array, piece: number): Inspection {
  const inspector = new StreamInspector()
  // The same buffer for every piece: nothing may be kept of it.
  const buffer = new Uint8Array(piece)
  for (let at = 0; at < data.length; at += piece) {
    const part = data.subarray(at, at + piece)
    buffer.set(part)
    inspector.push(buffer.subarray(0, part.length))
  }
  return inspector.end()
}

/** Names of the failed checks, of the file and of all findings, inside too. */
export function failures({ checks, findings }: Inspection): CheckName[] {
  return [...checks, ...findings.flatMap((finding) => finding.checks)]
    .filter(({ verdict }) => verdict === 'failed')
    .map(({ name }) => name)
    .concat(findings.flatMap(({ inner }) => (inner === undefined ? [] : failures(inner))))
}

/** The sentences of one check. */
export function sentenceFor({ checks, findings }: Inspection, name: CheckName): string {
  return [...checks, ...findings.flatMap((finding) => finding.checks)]
    .filter((check) => check.name === name)
    .map(({ sentence }) => sentence)
    .join('; ')
}
