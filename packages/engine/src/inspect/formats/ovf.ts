/** OVF descriptors: XML that describes an appliance and names its files. Facts: DMTF DSP0243. The text is searched, not parsed: nothing in it is expanded. */
import { latin1, name } from '../../bytes/header.ts'
import type { Inspector, Look, View } from '../contract.ts'
import type { Report } from '../finding.ts'

const mostBytes = 128 * 1024
const namespace = /https?:\/\/(?:schemas\.dmtf\.org\/ovf\/envelope\/|www\.vmware\.com\/schema\/ovf\/)[\w./]*/

/** The inspector of OVF descriptors. */
export const ovf: Inspector = { name: 'ovf', budget: 0, inspect }

// biome-ignore lint/correctness/useYield: an inspector is a generator, also when the head is enough.
function* inspect({ head, found }: View): Look {
  const start = latin1(head, 0, 4096)
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
  if (!start.startsWith('<')) return
  const text = latin1(head, 0, mostBytes)
  const match = /<(?:[\w-]+:)?Envelope[\s>]/.test(start) ? namespace.exec(start) : null
  if (match === null) return
  const report = found('ovf', 'descriptor', `an Envelope of ${name(match[0])}`)
  judgeText(report, text)
  if (!/<\/(?:[\w-]+:)?Envelope\s*>/.test(text)) {
    report.unknown('descriptor', 'its end was not looked at', {
      field: 'bytes',
      value: text.length,
      rule: 'the whole Envelope',
    })
  }
}

/** Judges the descriptor of an OVA. @param bytes All of it. */
export function judgeEnvelope(report: Report, bytes: Uint8Array): void {
  const text = latin1(bytes)
  if (!/<(?:[\w-]+:)?Envelope[\s>]/.test(text)) {
    report.failed('descriptor', 'the descriptor is no OVF', { field: 'root element', rule: 'Envelope' })
    return
  }
  judgeText(report, text)
}

function judgeText(report: Report, text: string): void {
  report.need(
    !/<!(?:DOCTYPE|ENTITY)/i.test(text),
    'descriptor',
    'it declares entities, which can unfold without bound or name files',
    {
      field: 'DOCTYPE',
      rule: 'none',
    },
  )
  const files = namesOfFiles(text)
  if (files.length > 0) report.fact('files', files.slice(0, 64).map(name))
  const outside = files.find((href) => /[/\\]|^[a-z][\w+.-]*:|^\.\.$/i.test(href))
  if (outside !== undefined) {
    report.failed('external-extents', 'it names a file in another place', {
      field: 'href',
      value: name(outside),
      rule: 'a plain name',
    })
  } else
    report.passed('external-extents', 'the files that it names lie beside it', { field: 'files', value: files.length })
  report.passed('descriptor', 'its descriptor is sound')
}

const mostFiles = 4096
/** Characters of a tag that are looked at. */
const mostTag = 4096

/** The names that elements of files have, in the order of the text. Each tag is cut out before anything is looked for in it: one pattern over the whole text would go back and forth in it for
 *  seconds, when somebody wants that. */
function namesOfFiles(text: string): string[] {
  const files: string[] = []
  for (let at = text.indexOf('<'); at >= 0 && files.length < mostFiles; at = text.indexOf('<', at + 1)) {
    const tag = text.slice(at + 1, at + 1 + mostTag)
    if (!/^(?:[\w-]{1,64}:)?File\s/.test(tag)) continue
    // A value may have a > in it, and no <.
    const end = tag.indexOf('<')
    const inside = end < 0 ? tag : tag.slice(0, end)
    const [, , href] = /href\s{0,64}=\s{0,64}(["'])([^"'<>]{0,1024})\1/.exec(inside) ?? []
    if (href !== undefined) files.push(href)
  }
  return files
}
