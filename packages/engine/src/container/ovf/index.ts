/** OVF and OVA as containers: a descriptor with its files beside it, or all of them in one tar. Facts: DMTF DSP0243 1.1 and 2.1. */
import type { ProbeWindow } from '../../format/format.ts'
import type { ContainerFormat } from '../container.ts'
import { looksLikeTar } from '../tar/index.ts'

/** Appliances in one file. */
export const ova: ContainerFormat = {
  name: 'ova',
  aliases: [],
  extensions: ['ova'],
  holdsDisks: true,
  probe(window) {
    if (looksLikeTar(window) === undefined) return undefined
    if (/\.ovf$/i.test(firstName(window))) return { score: 90, evidence: 'a tar whose first member is a descriptor' }
    return /\.ova$/i.test(window.name) ? { score: 70, evidence: 'a tar that is called so' } : undefined
  },
  open: async (source, context) => (await import('./open-package.ts')).openOva(source, context),
}

/** Descriptors of appliances, whose files lie beside them. */
export const ovf: ContainerFormat = {
  name: 'ovf',
  aliases: [],
  extensions: ['ovf'],
  holdsDisks: true,
  probe({ head }) {
    const text = new TextDecoder().decode(head.subarray(0, 4096)).replaceAll('\0', '')
    if (!/^\s*</.test(text) || !/<(?:[\w-]+:)?Envelope[\s>]/.test(text)) return undefined
    return { score: 80, evidence: 'an Envelope' }
  },
  open: async (source, context) => (await import('./open-package.ts')).openOvf(source, context),
}

function firstName({ head }: ProbeWindow): string {
  const end = head.indexOf(0)
  return new TextDecoder().decode(head.subarray(0, Math.min(100, end < 0 ? 100 : end)))
}
