/** XML of strangers: well-formed or refused with the line, no entity of their own, bounded whatever is written. */
import { isMoraineError, readXml, type XmlLimits, xmlParser } from '@moraine/engine'
import { describe, expect, it } from 'vitest'

const parser = xmlParser(() => import('saxes'))
const read = (text: string | Uint8Array, limits: Partial<XmlLimits> = {}) =>
  readXml(typeof text === 'string' ? new TextEncoder().encode(text) : text, parser, 'a.xml', limits)

async function failure(text: string | Uint8Array, limits: Partial<XmlLimits> = {}): Promise<string> {
  try {
    await read(text, limits)
  } catch (error) {
    if (isMoraineError(error)) return `${error.kind}: ${error.message}`
    throw error
  }
  return 'it was read'
}

const bomb = `<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>`

describe('XML', () => {
  it('gives names, namespaces, text and lines', async () => {
    const root = await read(
      '<?xml version="1.0"?>\n<q:a xmlns:q="urn:q" q:x="&lt;1"\n y="2">t<b>in &amp; <![CDATA[<out>]]></b>u<!-- no --></q:a>',
    )
    expect(root).toMatchObject({ uri: 'urn:q', local: 'a', text: 'tu', line: 2 })
    expect(root.attributes).toContainEqual({ uri: 'urn:q', local: 'x', value: '<1' })
    expect(root.attributes).toContainEqual({ uri: '', local: 'y', value: '2' })
    expect(root.children[0]).toMatchObject({ uri: '', local: 'b', text: 'in & <out>', line: 3 })
  })

  it('reads UTF-8 with a mark, UTF-16 and Latin-1', async () => {
    const text = '<a>déjà 虚</a>'
    for (const bytes of [
      Buffer.from(`\ufeff${text}`),
      Buffer.from(`\ufeff${text}`, 'utf16le'),
      Buffer.from(`\ufeff${text}`, 'utf16le').swap16(),
    ]) {
      expect((await read(bytes)).text).toBe('déjà 虚')
    }
    expect((await read(Buffer.from('<?xml version="1.0" encoding="ISO-8859-1"?><a>déjà</a>', 'latin1'))).text).toBe(
      'déjà',
    )
    expect(await failure(Buffer.from([0x3c, 0x61, 0x3e, 0xff, 0x3c, 0x2f, 0x61, 0x3e]))).toMatch(
      /^invalid: .*not in UTF-8/,
    )
    expect(await failure('<?xml version="1.0" encoding="x-none"?><a/>')).toMatch(/^unsupported: .*X-NONE/)
  })

  it.each([
    ['entities of its own', bomb, /^invalid: a\.xml: .*document type declaration at line 1.*DOCTYPE/],
    ['a file outside', '<!DOCTYPE a SYSTEM "file:///etc/passwd">\n<a/>', /^invalid: .*DOCTYPE/],
    ['an entity that nobody declared', '<a>\n&x;</a>', /^invalid: .*not well-formed: 2:\d+: undefined entity/],
    ['an element that is not closed', '<a><b></a>', /^invalid: .*not well-formed: 1:\d+/],
    ['an end in the middle', '<a><b>', /^invalid: .*not well-formed/],
    ['two roots', '<a/><b/>', /^invalid: .*not well-formed/],
    ['a prefix that means nothing', '<a q:x="1"/>', /^invalid: .*unbound namespace prefix/],
    ['an attribute twice', '<a x="1" x="2"/>', /^invalid: .*duplicate attribute/],
    ['nothing', '', /^invalid: .*not well-formed/],
    ['a NUL', '<a>\0</a>', /^invalid: .*disallowed character/],
  ])('refuses %s', async (_what, text, said) => {
    expect(await failure(text)).toMatch(said)
  })

  it.each([
    ['bytes', { bytes: 10 }, '<a>12345678</a>'],
    ['depth', {}, '<a>'.repeat(100_000)],
    ['elements', { elements: 100 }, `<a>${'<b/>'.repeat(200)}</a>`],
    ['attributes', { attributes: 100 }, `<a>${'<b x="1"/>'.repeat(200)}</a>`],
    ['attributes', {}, `<a ${Array.from({ length: 100_000 }, (_, index) => `a${index}=""`).join(' ')}/>`],
  ])('bounds %s', async (field, limits, text) => {
    const said = await failure(text, limits)
    expect(said).toMatch(/^limit: a\.xml: .*too (large|many)/)
    expect(said).toContain(`field ${field} is`)
  })
})
