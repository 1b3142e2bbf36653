/** Zstandard decoding in pure TypeScript, synchronous: into a buffer of known size, stopping once it is full, whatever follows. Browsers have no zstd,
 *  and Node's refuses trailing bytes. Matches reach back in the output itself, so that a frame's window costs no memory.
 *  Facts: RFC 8878. Dictionaries are not done: disk images do not use them. */
import { MoraineError } from '../core/index.ts'
import { xxh64 } from './xxh64.ts'
import {
  readZstdBlockHeader,
  readZstdFrameHeader,
  type ZstdBlockHeader,
  type ZstdFrameHeader,
  zstdBlockHeaderBytes,
} from './zstd-frame.ts'
import { decodeLiterals } from './zstd-literals.ts'
import { decodeSequences, type ZstdOutput } from './zstd-sequences.ts'
import { blockStart, corruptZstd, maxBlockBytes, workspaceForFrame, type ZstdWorkspace } from './zstd-workspace.ts'

/** Decodes zstd frames (skippable ones between them) from the beginning of `input` until `output` is full. Returns the bytes of input consumed:
 *  up to the end of the frame when it ends there, of the last block that was needed otherwise. A content checksum is verified when its frame ends
 *  within `output`. What `output` held is lost even when this fails.
 *  @throws MoraineError `corrupt` when a frame is damaged or cut, or the frames end before `output` is full; `unsupported` for a dictionary. */
export function zstdDecode(input: Uint8Array, output: Uint8Array): number {
  const { filled, consumed } = zstdDecodePart(input, output)
  if (filled === output.length) return consumed
  throw corruptZstd(`the zstd stream ends after ${filled} of ${output.length} bytes`, consumed)
}

/** Decodes zstd frames of unknown length like `zstdDecode`; where they end with `input` before `output` is full, that is no error. Returns the bytes
 *  written and the bytes of input consumed.
 *  @throws MoraineError `corrupt`, also when a frame is cut; `unsupported` for a dictionary. */
export function zstdDecodePart(input: Uint8Array, output: Uint8Array): { filled: number; consumed: number } {
  const target: ZstdOutput = {
    bytes: output,
    view: new DataView(output.buffer, output.byteOffset, output.byteLength),
    frameStart: 0,
    filled: 0,
  }
  let at = 0
  while (target.filled < output.length && at < input.length) {
    const frame = readZstdFrameHeader(input, at)
    if (frame.skip === undefined) at = decodeFrame(input, at, frame, target)
    else at += frame.skip
  }
  return { filled: target.filled, consumed: at }
}

function decodeFrame(input: Uint8Array, start: number, frame: ZstdFrameHeader, output: ZstdOutput): number {
  const workspace = workspaceForFrame()
  output.frameStart = output.filled
  let at = start + frame.length
  for (;;) {
    const full = output.filled === output.bytes.length
    if (full && !endsFrame(input, at)) return at
    const block = readZstdBlockHeader(input, at)
    const next = at + zstdBlockHeaderBytes + block.stored
    if (next > input.length) throw corruptZstd('the zstd stream is cut', input.length)
    let fits: boolean
    try {
      fits = decodeBlock(workspace, input, at + zstdBlockHeaderBytes, block, output)
    } catch (error) {
      throw located(error, at)
    }
    at = next
    if (!fits) return at
    if (block.last) break
  }
  if (frame.contentSize !== undefined && frame.contentSize !== output.filled - output.frameStart) {
    throw corruptZstd('a frame decodes to another size than it says', start)
  }
  if (!frame.hasChecksum) return at
  if (at + 4 > input.length) throw corruptZstd('the checksum of a frame is cut', input.length)
  const stored = new DataView(input.buffer, input.byteOffset + at, 4).getUint32(0, true)
  if (stored !== Number(xxh64(output.bytes.subarray(output.frameStart, output.filled)) & 0xffffffffn)) {
    throw corruptZstd('the checksum of a frame is wrong', at)
  }
  return at + 4
}

/** Whether an empty last block lies at `at`: writers that stream end their frames so. */
function endsFrame(input: Uint8Array, at: number): boolean {
  return (input[at] ?? 0) === 1 && input[at + 1] === 0 && input[at + 2] === 0
}

/** Decodes one block; false when the output was too small for it. */
function decodeBlock(
  workspace: ZstdWorkspace,
  input: Uint8Array,
  at: number,
  { type, size }: ZstdBlockHeader,
  output: ZstdOutput,
): boolean {
  if (size > maxBlockBytes) throw corruptZstd('a block is larger than 128 KiB')
  const fits = Math.min(size, output.bytes.length - output.filled)
  switch (type) {
    case 0:
      output.bytes.set(input.subarray(at, at + fits), output.filled)
      output.filled += fits
      return fits === size
    case 1:
      output.bytes.fill(input[at] as number, output.filled, output.filled + fits)
      output.filled += fits
      return fits === size
    default: {
      workspace.block.set(input.subarray(at, at + size), blockStart)
      const end = blockStart + size
      const { count, next } = decodeLiterals(workspace, blockStart, end)
      return decodeSequences(workspace, count, next, end, output)
    }
  }
}

function located(error: unknown, offset: number): unknown {
  if (!(error instanceof MoraineError) || error.offset !== undefined) return error
  return new MoraineError(error.kind, error.reason, { field: error.field, offset })
}
