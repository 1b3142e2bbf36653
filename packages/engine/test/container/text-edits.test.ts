/** Edits of a document by its text: what stands within a value is no attribute. */
import { SaxesParser } from 'saxes'
import { describe, expect, it } from 'vitest'
import { readXml, type XmlElement } from '../../src/codec/xml/document.ts'
import { xmlParser } from '../../src/codec/xml/library.ts'
import { TextEdits } from '../../src/container/ovf/edit/text-edits.ts'

const parser = xmlParser(async () => ({ SaxesParser }))

async function rootOf(text: string): Promise<XmlElement> {
  return await readXml(Buffer.from(text), parser, 'a.ovf')
}

describe('attributes', () => {
  it.each([
    ['behind one whose value looks alike', `<a o:d="see x:key=1 key='2'" o:key='3' xmlns:o="u"/>`, 'o:', `o:key="9"`],
    ['behind one whose name ends alike', `<a x-key="1" key="3"/>`, '', ' key="9"'],
    ['with blanks and a line break', `<a o:key\n=\n'3' xmlns:o="u"></a>`, 'o:', 'o:key\n=\n"9"'],
    ['that is not there', `<a o:d="see x:key='1'" xmlns:o="u"/>`, '', 'o:key="9"/>'],
  ])('%s', async (_what, text, prefix, expected) => {
    const root = await rootOf(text)
    const edits = new TextEdits(text)
    expect(edits.prefixOf(root, 'key')).toBe(prefix)
    edits.setAttribute(root, 'o:key', '9')
    const changed = edits.apply()
    expect(changed).toContain(expected)
    const other = (element: XmlElement) => element.attributes.filter(({ local }) => local !== 'key')
    const after = await rootOf(changed)
    expect(other(after)).toEqual(other(root))
    expect(after.attributes.filter(({ local }) => local === 'key').map(({ value }) => value)).toEqual(['9'])
  })

  it('of two with one name the one that is meant', async () => {
    const text = `<a key="1" o:key="2" xmlns:o="u"/>`
    const edits = new TextEdits(text)
    edits.setAttribute(await rootOf(text), 'o:key', '9')
    expect(edits.apply()).toBe(`<a key="1" o:key="9" xmlns:o="u"/>`)
  })
})
