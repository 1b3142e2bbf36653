/** Recognises what was uploaded: every signature is tried, at the head and at the tail, and all that fit are returned. */
import type { ByteSource } from '@moraine/engine'
import type { Finding, ReadAt } from './finding.ts'
import { hasPartitionTable, inspectIso, inspectVdi, inspectVhd, inspectVhdx, isFixedVhd } from './others.ts'
import { inspectQcow2 } from './qcow2.ts'
import { inspectVmdkSparse, inspectVmdkText, isVmdkText } from './vmdk.ts'

/** Bytes from the beginning that signatures are looked for in. */
export const headBytes = 128 * 1024
const tailBytes = 512

/** Looks at stored data as a whole. */
export async function inspectSource(source: ByteSource): Promise<Finding[]> {
  const read: ReadAt = async (offset, length) => {
    if (offset < 0 || length < 0 || offset + length > source.size) return undefined
    const into = Buffer.alloc(length)
    await source.read(offset, into)
    return into
  }
  const head = (await read(0, Math.min(headBytes, source.size))) ?? Buffer.alloc(0)
  const tail = (await read(Math.max(0, source.size - tailBytes), Math.min(tailBytes, source.size))) ?? Buffer.alloc(0)
  return [...(await inspectHead(head, source.size, read)), ...inspectTail(head, tail)]
}

/** Looks at the first bytes only, while the rest is still to come: what is found here stays true. */
export function inspectStart(head: Uint8Array): Promise<Finding[]> {
  const buffer = Buffer.from(head.buffer, head.byteOffset, head.byteLength)
  return inspectHead(buffer, Number.MAX_SAFE_INTEGER, () => Promise.resolve(undefined))
}

async function inspectHead(head: Buffer, size: number, read: ReadAt): Promise<Finding[]> {
  const findings: Finding[] = []
  const startsWith = (signature: string, at = 0) => head.toString('latin1', at, at + signature.length) === signature
  if (startsWith('QFI\xfb') && head.length >= 8) findings.push(inspectQcow2(head))
  if (startsWith('QED\0')) findings.push({ format: 'qed', dangers: ['QED is not taken'] })
  if (startsWith('conectix') && head.length >= 512) findings.push(inspectVhd(head))
  if (startsWith('vhdxfile')) findings.push(await inspectVhdx(read))
  if (startsWith('KDMV')) findings.push(await inspectVmdkSparse(head, size, read))
  if (startsWith('COWD')) findings.push({ format: 'vmdk', dangers: ['the subformat COWD is not taken'] })
  if (isVmdkText(head)) findings.push(inspectVmdkText())
  if (head.length >= 68 && head.readUInt32LE(64) === 0xbeda107f) findings.push(inspectVdi(head))
  if (startsWith('LUKS\xba\xbe')) findings.push({ format: 'luks', dangers: [] })
  if (['CD001', 'NSR02', 'NSR03'].some((id) => startsWith(id, 32769))) findings.push(inspectIso(head))
  if (hasPartitionTable(head)) findings.push({ format: 'gpt', dangers: [] })
  return findings
}

function inspectTail(head: Buffer, tail: Buffer): Finding[] {
  const isDynamic = head.toString('latin1', 0, 8) === 'conectix'
  return !isDynamic && isFixedVhd(tail) ? [inspectVhd(tail.subarray(-512))] : []
}
