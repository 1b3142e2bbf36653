/** Man pages: typeset without a complaint, and whole. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { describeWith, projectRoot, run, tool } from '../../engine/test/support/process.ts'
import { manPages } from '../src/man.ts'
import { optionsFor } from '../src/parse.ts'
import { personaFor } from '../src/persona.ts'
import { allVerbs } from '../src/verbs/index.ts'

const persona = personaFor('moraine')
const pages = await manPages(persona, '1.2.3')
const folder = mkdtempSync(join(tmpdir(), 'moraine-man-'))
for (const { file, text } of pages) writeFileSync(join(folder, file), text)
const files = pages.map(({ file }) => file)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function output(name: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run(tool(name).path ?? name, args, { cwd: folder })
  return stdout + stderr
}

/** As a terminal shows it, without what makes letters bold. */
async function typeset(file: string): Promise<string> {
  const text = await output('groff', ['-man', '-Tutf8', '-rLL=100n', '-P-c', '-P-b', '-P-u', file])
  return text.replace(/\s+/g, ' ')
}

it('there is a page for the command and for every verb', async () => {
  const verbs = (await allVerbs(persona)).map(({ name }) => `moraine-${name}.1`)
  expect(files).toEqual(['moraine.1', ...verbs])
  // `npm run build` writes their names there: npm links no others.
  const manifest = readFileSync(join(projectRoot, 'packages/cli/package.json'), 'utf8')
  expect((JSON.parse(manifest) as { man: string[] }).man).toEqual(files.map((file) => `./man/${file}`))
})

it('no verb has two options of one name', async () => {
  const verbs = await allVerbs(persona)
  for (const verb of verbs) verbs.push(...((await verb.below?.all()) ?? []))
  for (const verb of verbs) {
    const names = optionsFor(verb, persona).flatMap(([, { short, long }]) => [short, long])
    const given = names.filter((name) => name !== undefined)
    expect([verb.name, given.filter((name, at) => given.indexOf(name) !== at)]).toEqual([verb.name, []])
  }
})

describeWith(['groff'], 'by groff', () => {
  it('they have no warning', async () => {
    expect(await output('groff', ['-ww', '-man', '-Tutf8', '-z', ...files])).toBe('')
  })

  it('every option of a verb is in its page, as it is typed', async () => {
    const verb = (await allVerbs(persona)).find(({ name }) => name === 'convert')
    if (verb === undefined) throw new Error('no convert')
    const text = await typeset('moraine-convert.1')
    for (const [, { short, long, newer = [], argument }] of optionsFor(verb, persona)) {
      const named = argument === undefined ? '' : `=${argument}`
      const longs = [long, ...newer.filter((name) => name.length > 1)].filter((name) => name !== undefined)
      if (longs.length === 0) expect(text).toContain(` -${short}${named.replace('=', ' ')} `)
      for (const name of longs) expect(text).toContain(`--${name}${named}`)
      if (short !== undefined && longs.length > 0) expect(text).toContain(` -${short}, `)
    }
    expect(text).toContain('moraine convert -O qcow2 disk.raw - | ssh host "cat > disk.qcow2"')
  })

  it('the page of a group has the verbs below it, that of the command the formats', async () => {
    expect(await typeset('moraine-image.1')).toContain('moraine image push FILE')
    expect(await typeset('moraine.1')).toContain('subformat=monolithicSparse | monolithicFlat')
  })
})

describeWith(['mandoc'], 'by mandoc', () => {
  it('they have no warning, but that the same version always gives the same pages', async () => {
    const said = (await output('mandoc', ['-Tlint', '-W', 'warning', ...files])).split('\n')
    expect(said.filter((line) => line !== '' && !line.includes('missing date'))).toEqual([])
  })
})
