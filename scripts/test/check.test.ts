/** The checks themselves: each rule is shown a small project that breaks it, and one that does not. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkDocs } from '../check/docs.ts'
import { checkFloors, type Manifest, type Package } from '../check/floors.ts'
import { checkLock } from '../check/lock.ts'
import { formatProblem, type Problem, tidy } from '../check/problem.ts'
import { listSources, parseSource } from '../check/sources.ts'
import { checkLengths, checkWords } from '../check/text.ts'
import {
  checkBiome,
  checkKnip,
  checkTypes,
  readBiomeOutput,
  readCompilerOutput,
  readKnipOutput,
} from '../check/tools.ts'

const root = join(import.meta.dirname, '..', '..')
const said = (problems: readonly Problem[]) => tidy(problems).map(formatProblem)

test('a finding is one line, each once, in order', () => {
  const problem = (file: string, line: number): Problem => ({ file, line, rule: 'r', message: 'm' })
  expect(said([problem('b.ts', 2), problem('b.ts', 10), problem('a.ts', 3), problem('b.ts', 2)])).toEqual([
    'a.ts:3 r: m',
    'b.ts:2 r: m',
    'b.ts:10 r: m',
  ])
})

describe('docstrings', () => {
  const check = (text: string) => said(checkDocs([parseSource('a.ts', text)]))

  test.each([
    ['a constant', 'export const size = 1'],
    ['a function', 'export function size() {}'],
    ['a class', 'export class Size {}'],
    ['an interface', 'export interface Size {}'],
    ['a type', 'export type Size = number'],
    ['a default', 'export default function () {}'],
    ['a comment that is no docstring', '// Bytes of it.\nexport const size = 1'],
    ['a docstring without words', '/** */\nexport const size = 1'],
    ['a docstring of something else', '/** The other. */\nconst other = 2\nexport const size = other'],
    ['a name exported below', 'const size = 1\nexport { size }'],
  ])('%s without one is found', (_, text) => {
    expect(check(`/** What the module is for. */\n\n${text}`)).toMatchObject([
      expect.stringMatching(/^a\.ts:\d+ docstring:/),
    ])
  })

  test('the line is that of the export', () => {
    expect(check('/** What the module is for. */\n\n\nexport const size = 1')).toEqual([
      'a.ts:4 docstring: exported `size` has no docstring',
    ])
  })

  test('documented exports, overloads, and names passed on are fine', () => {
    expect(
      check(`/** What the module is for. */
import { other } from './other.ts'

/** Bytes of it. */
export const size = 1

/** Adds. */
export function add(a: number): number
export function add(a: string): string
export function add(a: unknown) { return a }

/** Said below. */
const below = 3
export { below, other }
export * from './more.ts'
`),
    ).toEqual([])
  })

  test('a module that does not say what it is for is found', () => {
    expect(check('const size = 1\n/** Too late. */')).toEqual([expect.stringMatching(/^a\.ts:1 module-comment:/)])
    expect(check('#!/usr/bin/env node\n/** What the module is for. */')).toEqual([])
  })
})

describe('floors', () => {
  const manifest: Manifest = {
    name: '@moraine/engine',
    imports: {
      '#platform': {
        browser: { source: './src/platform/web/index.ts', default: './dist/platform/web/index.js' },
        source: './src/platform/node/index.ts',
        default: './dist/platform/node/index.js',
      },
    },
  }
  const pkg = (folder: string, files: Record<string, string>, more: Partial<Manifest> = {}): Package => ({
    folder,
    manifest: { ...manifest, name: `@moraine/${folder}`, ...more },
    files: Object.entries(files).map(([path, text]) => parseSource(`packages/${folder}/src/${path}`, text)),
  })
  const sound = {
    'index.ts': "export * from './core/source.ts'\nexport * from './format/raw.ts'",
    'node.ts': "import 'node:fs'",
    'core/source.ts': 'export const source = 1',
    'format/raw.ts':
      "import { source } from '../core/source.ts'\nimport { open } from '#platform'\nexport { open, source }",
    'platform/node/index.ts': "import { open } from 'node:fs'\nimport koffi from 'koffi'\nexport { open, koffi }",
    'platform/web/index.ts': 'export const open = 1',
  }
  const rules = (packages: Package[]) => said(checkFloors(packages))
  const engine = (files: Record<string, string>, more?: Partial<Manifest>) =>
    rules([pkg('engine', { ...sound, ...files }, more)])

  test('a sound engine has no problem', () => {
    expect(engine({})).toEqual([])
  })

  test('an import upward is found, types too, and through #platform', () => {
    expect(engine({ 'core/disk.ts': "\nimport type { open } from '../format/raw.ts'" })).toEqual([
      'packages/engine/src/core/disk.ts:2 import-upward: `core` must not import `format` (../format/raw.ts)',
    ])
    expect(engine({ 'codec/zstd.ts': "import { open } from '#platform'" }).join()).toMatch(
      /codec\/zstd\.ts:1 import-upward: `codec` must not import `platform`/,
    )
    expect(engine({ 'core/all.ts': "export * from '../index.ts'" }).join()).toMatch(/core\/all\.ts:1 import-upward/)
    expect(engine({ 'core/late.ts': "const late = () => import('../format/raw.ts')" }).join()).toMatch(
      /late\.ts:1 import-upward/,
    )
    expect(engine({ 'core/pool.ts': "new URL('../format/raw.ts', import.meta.url)" }).join()).toMatch(
      /pool\.ts:1 import-upward/,
    )
  })

  test('a room that is not in the plan is found', () => {
    expect(engine({ 'misc/x.ts': '' })).toEqual([
      'packages/engine/src/misc/x.ts:1 unknown-room: `misc` is no room of the engine',
    ])
  })

  test('a circle is found, but not one of types within a folder', () => {
    const circle = {
      'bytes/a.ts': "import { b } from './b.ts'\nexport const a = () => b",
      'bytes/b.ts': "export { c } from './c.ts'\nexport const b = 1",
      'bytes/c.ts': "\nimport { a } from './a.ts'\nexport const c = () => a",
    }
    expect(engine(circle)).toEqual([
      'packages/engine/src/bytes/a.ts:1 import-circle: a circle between packages/engine/src/bytes/a.ts, packages/engine/src/bytes/b.ts, packages/engine/src/bytes/c.ts',
    ])
    expect(engine({ 'bytes/a.ts': "import { a } from './a.ts'" }).join()).toMatch(/a\.ts:1 import-circle/)
    expect(
      engine({ 'bytes/a.ts': "import type { B } from './b.ts'", 'bytes/b.ts': "import type { A } from './a.ts'" }),
    ).toEqual([])
    expect(
      engine({
        'format/a/a.ts': "import type { B } from '../b/b.ts'",
        'format/b/b.ts': "import type { A } from '../a/a.ts'",
      }).join(),
    ).toMatch(/import-circle/)
  })

  test("Node's modules and packages outside platform/node are found", () => {
    expect(engine({ 'source/file.ts': "import { open } from 'node:fs/promises'" })).toEqual([
      'packages/engine/src/source/file.ts:1 node-import: `node:fs/promises` is imported outside platform/node',
    ])
    expect(engine({ 'source/file.ts': "import { open } from 'fs'" }).join()).toMatch(/node-import: `fs`/)
    expect(engine({ 'source/file.ts': "import koffi from 'koffi'" }).join()).toMatch(/package-import: `koffi`/)
  })

  test('what the browser entry reaches of Node is found, with the way to it', () => {
    const found = engine({
      'platform/web/index.ts': "export { open } from '../shared.ts'",
      'platform/shared.ts': "export { open } from './node/index.ts'",
    })
    expect(found).toEqual([
      'packages/engine/src/platform/node/index.ts:1 browser-entry: `node:fs` is reachable from the browser entry: index.ts > format/raw.ts > platform/web/index.ts > platform/shared.ts > platform/node/index.ts',
      expect.stringMatching(/platform\/node\/index\.ts:2 browser-entry: `koffi`/),
    ])
    expect(engine({ 'index.ts': "export * from './gone.ts'" }).join()).toMatch(/index\.ts:1 browser-entry: .*gone\.ts/)
  })

  test('a required dependency of the engine is found, an optional peer is not', () => {
    const optional = { peerDependencies: { koffi: '1' }, peerDependenciesMeta: { koffi: { optional: true } } }
    expect(engine({}, optional)).toEqual([])
    for (const more of [
      { dependencies: { a: '1' } },
      { optionalDependencies: { a: '1' } },
      { peerDependencies: { a: '1' } },
    ]) {
      expect(engine({}, more)).toEqual([
        'packages/engine/package.json:1 required-dependency: the engine must not depend on `a`',
      ])
    }
  })

  test('packages import downward and by name only', () => {
    const house = (files: Record<string, string>) => rules([pkg('engine', sound), pkg('server', files), pkg('cli', {})])
    expect(house({ 'index.ts': "import { raw } from '@moraine/engine/node'" })).toEqual([])
    expect(house({ 'index.ts': "import '@moraine/cli'" }).join()).toMatch(
      /package-floor: `server` must not import `cli`/,
    )
    expect(house({ 'index.ts': "import '../../engine/src/index.ts'" }).join()).toMatch(
      /package-floor: .*leaves the package/,
    )
    expect(rules([pkg('attic', {})])).toEqual([expect.stringMatching(/package-floor: `attic` has no floor/)])
  })
})

describe('text', () => {
  test('a file over 500 lines is found', () => {
    const file = (lines: number) => [{ path: 'a.ts', text: 'x\n'.repeat(lines) }]
    expect(checkLengths(file(500))).toEqual([])
    expect(said(checkLengths(file(501)))).toEqual([
      'a.ts:501 file-length: 501 lines, at most 500: the file wants a second room',
    ])
  })

  const facts = { folders: ['/srv/checkout', '/app'], hosts: ['packages.example.net:8080'] }
  const words = (text: string) => said(checkWords([{ path: 'a.md', text }], facts))
  // Written in pieces, so that the check of this file does not find them here.
  const path = (...parts: string[]) => `/${parts.join('/')}`

  test.each([
    ['the checkout', '/srv/checkout/packages'],
    ['a home folder', path('home', 'ann', 'disk.img')],
    ['a temporary folder, quoted', `'${path('tmp', 'disk.img')}'`],
    ['a build folder after =', `cwd=${path('work', 'main')}`],
  ])('%s is found', (_, text) => {
    expect(words(`fine\n${text}`)).toEqual([expect.stringMatching(/^a\.md:2 machine-path: /)])
  })

  test.each([
    ['the public one', ['https://registry', 'npmjs', 'org/x'].join('.')],
    ['the one that npm is set to', 'http://packages.example.net:8080/x'],
    ['a mirror of Debian', ['http://deb', 'debian', 'org/debian'].join('.')],
  ])('a registry is found: %s', (_, text) => {
    expect(words(text)).toEqual([expect.stringMatching(/^a\.md:1 registry-host: /)])
  })

  test('paths within the project, and folders of one segment, are fine', () => {
    expect(
      words('src/work/main.ts ./tmp/x */home/x ~/tmp/x /usr/bin /app/x /srv/checkouts https://example.org/home/x'),
    ).toEqual([])
  })
})

describe('the lock', () => {
  const lock = (packages: object) => said(checkLock('package-lock.json', JSON.stringify({ packages }, undefined, 1)))
  const native = { optionalDependencies: { 'n-linux': '1.0.0', 'n-darwin': '1.0.0' } }
  const [linux, darwin] = [
    { version: '1.0.0', os: ['linux'] },
    { version: '1.0.0', os: ['darwin'] },
  ]

  test('with every optional package is fine, wherever Node would find it', () => {
    expect(lock({ 'node_modules/n': native, 'node_modules/n-linux': linux, 'node_modules/n-darwin': darwin })).toEqual(
      [],
    )
    expect(
      lock({
        'node_modules/a/node_modules/n': native,
        'node_modules/n-linux': linux,
        'node_modules/a/node_modules/n-darwin': darwin,
      }),
    ).toEqual([])
    expect(lock({ 'packages/n': native, 'node_modules/n-linux': linux, 'node_modules/n-darwin': darwin })).toEqual([])
  })

  test('with one that an old npm would leave out is found', () => {
    const fussy = { ...linux, optional: true, engines: { node: '>=24' } }
    expect(lock({ 'node_modules/n-linux': fussy })).toEqual([
      "package-lock.json:1 lock-engines: `node_modules/n-linux` is left out where the machine's own Node is old: run `npm run complete-lock`",
    ])
    expect(lock({ 'node_modules/n': { engines: { node: '>=24' } } })).toEqual([])
  })

  test('without one is found', () => {
    const missing = (by: string) =>
      `package-lock.json:1 lock-optional: \`n-darwin\`, which \`${by}\` wants, is not locked: run \`npm run complete-lock\``
    expect(lock({ 'node_modules/n': native, 'node_modules/n-linux': linux })).toEqual([missing('node_modules/n')])
    expect(lock({ '': native, 'node_modules/n-linux': linux })).toEqual([missing('the root')])
    const other = { ...darwin, version: '2.0.0' }
    expect(lock({ 'node_modules/n': native, 'node_modules/n-linux': linux, 'node_modules/n-darwin': other })).toEqual([
      missing('node_modules/n'),
    ])
  })

  test('with an address is found, with a link is not', () => {
    expect(lock({ a: { resolved: 'https://example.org/a.tgz' }, b: { resolved: 'packages/b', link: true } })).toEqual([
      expect.stringMatching(/^package-lock\.json:4 lock-resolved:/),
    ])
  })
})

describe('other tools', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'moraine-check-'))
    const files = {
      'package.json':
        '{ "name": "fixture", "type": "module", "main": "index.ts", "devDependencies": { "unused": "1.0.0" } }\n',
      'tsconfig.json':
        '{ "compilerOptions": { "strict": true, "noEmit": true, "types": [] }, "files": ["index.ts"] }\n',
      'biome.json': '{ "linter": { "rules": { "preset": "recommended" } } }\n',
      'index.ts': "\nexport const size: number = 'one';\nvar x = 1;\n",
      'orphan.ts': 'export const alone = 1;\n',
    }
    await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(folder, name), text)))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('the compiler says file, line and code', async () => {
    expect(said(await checkTypes(root, 'tsconfig.json', folder))).toEqual([
      "index.ts:2 types TS2322: Type 'string' is not assignable to type 'number'.",
    ])
    expect(said(await checkTypes(root, 'gone.json', folder))).toHaveLength(1)
    expect(readCompilerOutput('error TS18003: No inputs were found')).toHaveLength(1)
  })

  test('Biome says file, line and rule', async () => {
    const found = said(await checkBiome(root, folder))
    expect(found).toContainEqual(expect.stringMatching(/^index\.ts:3 biome lint\//))
    expect(found).toContainEqual(expect.stringMatching(/^index\.ts:2 biome format:/))
    expect(readBiomeOutput('::notice title=x,file=a.ts,line=1::m', root)).toEqual([])
  })

  test('knip says what nothing uses', async () => {
    const found = said(await checkKnip(root, folder))
    expect(found).toContainEqual('orphan.ts:1 knip files: nothing uses this file')
    expect(found).toContainEqual('package.json:1 knip devDependencies: `unused`')
    expect(
      readKnipOutput('{"issues":[{"file":"a.ts","duplicates":[[{"name":"a","line":3},{"name":"b"}]],"owners":"x"}]}'),
    ).toHaveLength(2)
  })
})

test('sources are found in folders, without what is built or installed', async () => {
  expect(listSources(root, 'scripts')).toContain('scripts/check/floors.ts')
  expect(listSources(root, '').filter((path) => /node_modules|dist\//.test(path))).toEqual([])
  expect(listSources(root, 'no-such-folder')).toEqual([])
  expect(() => parseSource('a.ts', 'x\nconst = 1')).toThrow(/^a\.ts:2 syntax/)
})
