/** Programs whose modules run when they are first used. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { joinLate } from '../build/late-modules.ts'
import { run } from '../support/run.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-late-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Joins modules of which the first is the entry, and runs the result. */
async function joined(modules: Record<string, string>): Promise<string[]> {
  const place = mkdtempSync(join(folder, 'case-'))
  mkdirSync(join(place, 'sub'))
  for (const [name, text] of Object.entries(modules)) writeFileSync(join(place, name), text)
  const [first = ''] = Object.keys(modules)
  const text = await joinLate({
    entry: join(place, first),
    root: place,
    takenIn: [],
    conditions: ['import'],
    define: { builtFor: '"the test"' },
    replaced: { 'node:fs': join(place, 'fs.ts') },
  })
  const file = join(place, 'joined.mjs')
  writeFileSync(
    file,
    `import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)\n${text}`,
  )
  const { code, stdout, stderr } = await run(process.execPath, [file], place)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout.trimEnd().split('\n')
}

const fs = `console.log('fs made')
const writeSync = (text: string) => console.log('own', text)
export default { writeSync }`

describe('a program whose modules run late', () => {
  it('runs a module at the first use of an export, once, and one imported for itself at once', async () => {
    const said = await joined({
      'entry.ts': `import './first.ts'
        import { a, Thing, used } from './sub/a.ts'
        import { never } from './never.ts'
        console.log('entry')
        if (process.argv.length > 9) never()
        console.log(a, new Thing(3).value, { ...used }.text, [used].length, \`\${a}\`)
        const { late } = await1()
        function await1() { return { late: () => import('./late.ts') } }
        void late().then((module) => console.log(module.text, module.default))`,
      'first.ts': `console.log('first')
        export const first = 1`,
      'never.ts': `console.log('never')
        export function never() { console.log('never called') }`,
      'sub/a.ts': `import path, { basename } from 'node:path'
        import { first } from '../first.ts'
        console.log('a')
        export const a = basename('/x/name') + path.extname('b.c') + first
        export class Thing { value; constructor(value: number) { this.value = value } }
        export const used = { text: 'spread', a: (path) => path }
        export { first }`,
      'late.ts': `console.log('late')
        export const text = typeof builtFor === 'string' ? builtFor : 'nothing'
        export default import.meta.url.startsWith('file:')`,
      'fs.ts': fs,
    })
    expect(said).toEqual(['first', 'entry', 'a', 'name.c1 3 spread 1 name.c1', 'late', 'the test true'])
  })

  it('takes no name from a module', async () => {
    const said = await joined({
      'entry.ts': `import { text } from './late.ts'
        async function all() {
          const { other } = await import('./other.ts')
          const [part, parts, made, module, number] = ['part', 'parts', 'made', 'module', 'number'].toReversed()
          console.log(other, text, part, parts, made, module, number)
        }
        void all()`,
      'late.ts': `export const text = 'late'`,
      'other.ts': `export const other = 'other'`,
      'fs.ts': fs,
    })
    expect(said).toEqual(['other late number module made parts part'])
  })

  it('has a module in place of one of Node', async () => {
    const said = await joined({
      'entry.ts': `import fs from 'node:fs'
        import { writeSync } from 'node:fs'
        console.log('entry')
        fs.writeSync('by default')
        writeSync('by name')`,
      'fs.ts': fs,
    })
    expect(said).toEqual(['entry', 'fs made', 'own by default', 'own by name'])
  })
})
