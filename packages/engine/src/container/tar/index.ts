/** tar as a container. */
import { viewOf } from '../../bytes/integers.ts'
import type { ProbeVerdict, ProbeWindow } from '../../format/format.ts'
import type { ContainerFormat } from '../container.ts'

/** tar archives: ustar, pax, GNU and those of before 1988. */
export const tar: ContainerFormat = {
  name: 'tar',
  aliases: [],
  extensions: ['tar'],
  holdsDisks: true,
  probe: looksLikeTar,
  open: async (source, { signal }) => (await import('./archive.ts')).openTar(source, signal),
}

/** Whether bytes begin with the header of a tar: "ustar" at 257, or a checksum that is right. */
export function looksLikeTar({ head }: Pick<ProbeWindow, 'head'>): ProbeVerdict | undefined {
  if (head.length < 512 || head[0] === 0) return undefined
  const view = viewOf(head)
  if (view.getUint32(257) === 0x75737461 && head[261] === 0x72) return { score: 60, evidence: '"ustar" at 257' }
  let sum = 256
  for (let index = 0; index < 512; index++) if (index < 148 || index >= 156) sum += head[index] ?? 0
  const stated = String.fromCharCode(...head.subarray(148, 156))
    .replaceAll('\0', ' ')
    .trim()
  if (!/^[0-7]{1,7}$/.test(stated) || Number.parseInt(stated, 8) !== sum) return undefined
  return { score: 40, evidence: 'the checksum of a header' }
}
