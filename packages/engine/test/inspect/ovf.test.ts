/** The names of files in OVF descriptors: none gets by, however it is written, and no text costs more than its length. */
import { type Check, type Inspection, inspectSource, MemoryStore } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import * as images from './images.ts'
import { look } from './look.ts'

/** A descriptor with these references. */
function descriptor(references: string, prefix = ''): Buffer {
  const text = images.ovf([]).toString('latin1')
  const whole = text.replace(/(<\/?)(?=Envelope|References)/g, `$1${prefix}`)
  return Buffer.from(whole.replace(/(?=<\/[^<]*References>)/, references), 'latin1')
}

function extents({ findings }: Inspection): Check | undefined {
  return findings.flatMap(({ checks }) => checks).find(({ name }) => name === 'external-extents')
}

const far = 'ovf:href="../../etc/passwd"'

describe('files that an OVF names in another place', () => {
  it.each([
    ['behind what looks like a name in a value', `<File ovf:id="href='ok.vmdk'" ${far}/>`],
    ['behind an attribute whose name ends alike', `<File xhref="ok.vmdk" ${far}/>`],
    ['behind another one of this name', `<File href="ok.vmdk" ${far}/>`],
    ['with a dot in the prefix', `<a.b:File ${far}/>`],
    ['with a letter that is no ASCII in the prefix', `<\xc3\xa0\xc3\x85:File ${far}/>`],
    ['with a long prefix', `<${'p'.repeat(100)}:File ${far}/>`],
    ['behind 5,000 characters', `<File ovf:id="${'x'.repeat(5000)}" ${far}/>`],
    ['in 2,000 characters', `<File href="${'x'.repeat(2000)}/a"/>`],
    ['behind 5,000 others', `${'<File href="a"/>'.repeat(5000)}<File ${far}/>`],
    ['with a slash as a number', '<File href="..&#47;x"/>'],
    ['with a slash as a number of base 16', '<File href="..&#x2F;x"/>'],
    ['with a slash as a URI has it', '<File href="..%2fx"/>'],
    ['with blanks around', '<File href=" .. "/>'],
    ['in another line', `<File\n\tovf:id = 'a'\r\n ovf:href\n=\n'/etc/passwd' >`],
    ['in what may be a comment', `<!-- <File ${far}/> -->`],
  ])('%s', async (_what, references) => {
    for (const prefix of ['', 'o.v\xe9f:']) {
      const data = descriptor(references, prefix)
      const found = await look(data)
      expect([found.format, extents(found)?.verdict], extents(found)?.sentence).toEqual(['ovf', 'failed'])
      const packed = await look(images.tar([{ name: 'a.ovf', data }]))
      expect(extents(packed)?.verdict).toBe('failed')
    }
  })

  it.each([
    ['an entity of its own', '<File href="&x;"/>'],
    ['what every object has', '<File href="&toString"/>'],
    ['no letter of Unicode', '<File href="&#x110000;"/>'],
    ['an ampersand', '<File href="a&b"/>'],
    ['no quotes', '<File href=a.vmdk/>'],
    ['no end of a value', '<File href="a.vmdk/>'],
    ['no blank between two', '<File id="a"href="a.vmdk"/>'],
    ['another tag in a value', `<File id="<b" ${far}/>`],
  ])('nothing is promised of one with %s', async (_what, references) => {
    const check = extents(await look(descriptor(references)))
    expect(check?.verdict, check?.sentence).toBe('unknown')
    expect(check?.sentence).toContain('cannot be read')
  })

  it('nothing is promised of what was not looked at', async () => {
    const text = `${' '.repeat(200 * 1024)}<File ${far}/>`
    expect(extents(await look(descriptor(text)))?.verdict).toBe('unknown')
  })

  it('names beside it are told as they are meant', async () => {
    const found = await look(
      descriptor(`<File href='a&amp;b.vmdk' id="x"/><File ovf:href="url%24a%b.vmdk"></File><File/>`),
    )
    expect(extents(found)?.verdict).toBe('passed')
    expect(found.findings[0]?.facts.files).toEqual(['a&b.vmdk', 'url%24a%b.vmdk'])
  })

  it.each([
    ['tags', '<File '],
    ['signs', '<'],
    ['attributes', '<File a="'],
    ['quotes', `<File ${'a="" '.repeat(9)}`],
    ['prefixes', '<a:a:a:a'],
    ['references', '<File href="&&&&&&&&&&&&'],
    ['blanks', ' '.repeat(64)],
    ['ends', '</Envelope '],
  ])('128 KiB of %s are looked at in no time', async (_what, part) => {
    const data = descriptor(part.repeat(128 * 1024).slice(0, 128 * 1024))
    const start = performance.now()
    await inspectSource(MemoryStore.from(data))
    expect(performance.now() - start).toBeLessThan(1000)
  })
})
