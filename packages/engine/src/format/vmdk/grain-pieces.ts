/** The parts of a request to write, each of which has its place in a file, and what goes there: its bytes, and around them what new grains showed before. */
import type { ByteStore } from '../../core/index.ts'
import type { GrainWriter } from './grain-writer.ts'

/** Grains up to this size are filled up in one write; a header may ask for grains of 1 GiB. */
const wholeGrainBytes = 4 * 1024 * 1024

/** Grains that show the parent until their bytes are there. Guest bytes from `from` up to `to`; `at` in the extent and `host` in the file are those of the first. */
interface PendingGrains {
  writer: GrainWriter
  from: number
  to: number
  at: number
  count: number
  host: number
}

/** A part of a request whose bytes lie together in a file. */
export interface Piece {
  store: ByteStore
  /** Guest byte offset and length of the request's bytes. */
  guest: number
  length: number
  /** Byte offset in the file of the first of them. */
  host: number
  pending: PendingGrains | undefined
}

/** Reads what the guest sees at an offset. */
type Read = (offset: number, into: Uint8Array) => Promise<void>

/** Writes the pieces of a request, which are in the order of the guest; what lies side by side goes out as one. `from`: what the guest writes at `offset`. */
export async function writePieces(
  pieces: readonly Piece[],
  { offset, from }: { offset: number; from: Uint8Array },
  readBefore: Read,
  signal: AbortSignal | undefined,
): Promise<void> {
  const writes: Promise<void>[] = []
  for (let first = 0; first < pieces.length; ) {
    const piece = pieces[first] as Piece
    const { guest, host, store } = piece
    let end = guest + piece.length
    first++
    if (piece.pending !== undefined) {
      writes.push(writeWhole(piece, piece.pending, from.subarray(guest - offset, end - offset), readBefore, signal))
      continue
    }
    for (let next = pieces[first]; next?.pending === undefined && next?.store === store; next = pieces[first]) {
      if (next.host !== host + end - guest) break
      end += next.length
      first++
    }
    writes.push(store.write(host, from.subarray(guest - offset, end - offset), signal))
  }
  for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
}

/** Writes the bytes of a piece, and around them what its grains showed before. */
async function writeWhole(
  piece: Piece,
  { from, to }: PendingGrains,
  bytes: Uint8Array,
  readBefore: Read,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { guest, length, host, store } = piece
  if (from === guest && to === guest + length) return store.write(host, bytes, signal)
  if (to - from > wholeGrainBytes) {
    await copyBefore(piece, from, guest, readBefore, signal)
    await store.write(host, bytes, signal)
    return copyBefore(piece, guest + length, to, readBefore, signal)
  }
  const whole = new Uint8Array(to - from)
  await readBefore(from, whole.subarray(0, guest - from))
  whole.set(bytes, guest - from)
  await readBefore(guest + length, whole.subarray(guest + length - from))
  return store.write(host - (guest - from), whole, signal)
}

/** Writes what a part of a grain showed before where the grain will be. */
async function copyBefore(
  { guest, host, store }: Piece,
  from: number,
  to: number,
  readBefore: Read,
  signal: AbortSignal | undefined,
): Promise<void> {
  const buffer = new Uint8Array(Math.min(wholeGrainBytes, to - from))
  for (let at = from; at < to; at += wholeGrainBytes) {
    const bytes = buffer.subarray(0, Math.min(wholeGrainBytes, to - at))
    await readBefore(at, bytes)
    await store.write(host + at - guest, bytes, signal)
  }
}
