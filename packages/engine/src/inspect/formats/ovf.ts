/** OVF descriptors: XML that describes an appliance and names its files. Facts: DMTF DSP0243. The text is searched, not parsed: nothing in it is expanded. */
import { latin1, name } from '../../bytes/header.ts'
import { localName, readOpeningTag, resolveReferences } from '../../codec/xml/opening-tag.ts'
import type { Inspector, Look, View } from '../contract.ts'
import type { Report } from '../finding.ts'

const mostBytes = 128 * 1024
const namespace = /https?:\/\/(?:schemas\.dmtf\.org\/ovf\/envelope\/|www\.vmware\.com\/schema\/ovf\/)[\w./]*/

/** Before a name: a prefix, in which nearly all may stand. */
const prefix = '(?:[^ \\t\\r\\n<>/="\'&]+:)?'
const opening = new RegExp(`<${prefix}Envelope[\\s>]`)
const closing = new RegExp(`</${prefix}Envelope\\s*>`)

/** The inspector of OVF descriptors. */
export const ovf: Inspector = { name: 'ovf', budget: 0, inspect }

// biome-ignore lint/correctness/useYield: an inspector is a generator, also when the head is enough.
function* inspect({ head, found }: View): Look {
  const start = latin1(head, 0, 4096)
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
  if (!start.startsWith('<')) return
  const text = latin1(head, 0, mostBytes)
  const match = opening.test(start) ? namespace.exec(start) : null
  if (match === null) return
  const report = found('ovf', 'descriptor', `an Envelope of ${name(match[0])}`)
  judgeText(report, text)
  if (!closing.test(text)) {
    const place = { field: 'bytes', value: text.length, rule: 'the whole Envelope' }
    report.unknown('descriptor', 'its end was not looked at', place)
    report.unknown('external-extents', 'its end was not looked at', place)
  }
}

/** Judges the descriptor of an OVA. @param bytes All of it. */
export function judgeEnvelope(report: Report, bytes: Uint8Array): void {
  const text = latin1(bytes)
  if (!opening.test(text)) {
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
  judgeFiles(report, text)
  report.passed('descriptor', 'its descriptor is sound')
}

/** Names that are told. */
const mostShown = 64

function judgeFiles(report: Report, text: string): void {
  const shown: string[] = []
  let count = 0
  let outside: string | undefined
  for (const href of namesOfFiles(text)) {
    if (href === undefined) {
      report.unknown('external-extents', 'it names a file in a way that cannot be read', {
        field: 'File',
        rule: 'attributes in quotes, without entities of its own',
      })
      continue
    }
    if (count++ < mostShown) shown.push(name(href))
    if (isOutside(href)) outside ??= href
  }
  if (shown.length > 0) report.fact('files', shown)
  if (outside !== undefined) {
    report.failed('external-extents', 'it names a file in another place', {
      field: 'href',
      value: name(outside),
      rule: 'a plain name',
    })
  } else report.passed('external-extents', 'the files that it names lie beside it', { field: 'files', value: count })
}

/** Whether a name leads away, as it stands or with its bytes in hexadecimal digits resolved: it is a URI. */
function isOutside(href: string): boolean {
  const plain = href.replace(/%([0-9a-f]{2})/gi, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  )
  return [href, plain].some((path) => /[/\\]|^[a-z][\w+.-]*:|^\.\.$/i.test(path.trim()))
}

/** The names that elements of files have, in the order of the text; undefined for one that cannot be read. No tag has a `<` in it, so that each stretch between two of them is walked once,
 *  also where it stands in a comment: what takes a comment for text must not be fooled. */
function* namesOfFiles(text: string): Generator<string | undefined> {
  for (let at = text.indexOf('<'); at >= 0; ) {
    const next = text.indexOf('<', at + 1)
    const tag = text.slice(at, next < 0 ? text.length : next)
    at = next
    if (!isFile.test(tag)) continue
    const { attributes, whole } = readOpeningTag(tag)
    for (const { name: attribute, value } of attributes) {
      if (localName(attribute) === 'href') yield resolveReferences(value)
    }
    if (!whole) yield undefined
  }
}

const isFile = new RegExp(`^<${prefix}File(?:[\\s/>]|$)`)
