/** Recognising a VMDK, by the rules of QEMU 7.2's `vmdk_probe`. */
import type { ProbeVerdict, ProbeWindow } from '../format.ts'
import { isCowd, isSparse } from './layout.ts'

/** QEMU looks at so many bytes. */
const windowBytes = 512

/** Looks at the head: the magic of a sparse extent, or a text whose first line that says anything is its version. */
export function looksLikeVmdk({ head }: ProbeWindow): ProbeVerdict | undefined {
  if (isSparse(head)) return { score: 100, evidence: 'magic "KDMV"' }
  if (isCowd(head)) return { score: 100, evidence: 'magic "COWD"' }
  const text = new TextDecoder('latin1').decode(head.subarray(0, windowBytes))
  // Blank lines hold nothing but blanks, and at least one: an empty line ends the search.
  const match = /^(?:#[^\n]*\n| +\r?\n)*version=([123])\r?\n/.exec(text)
  return match === null ? undefined : { score: 100, evidence: `a descriptor of version ${match[1]}` }
}
