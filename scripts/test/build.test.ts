/** The build: what it rewrites, in which order it goes, and that what is wrong with a package is found. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rewriteSpecifiers } from '../build/emit.ts'
import { librariesOf, licencesOf } from '../build/licences.ts'
import { lintPackage, lintTypes } from '../build/lint.ts'
import { inOrder, type PackageManifest, root, workspacePackages } from '../build/workspace.ts'

test('declarations name .js, other texts stay', () => {
  expect(rewriteSpecifiers('import { type A } from \'./a.ts\';\nexport * from "../b/c.ts";')).toBe(
    'import { type A } from \'./a.js\';\nexport * from "../b/c.js";',
  )
  expect(rewriteSpecifiers("import './a.ts';\nlet x: import('./b.ts').B;")).toBe(
    "import './a.js';\nlet x: import('./b.js').B;",
  )
  for (const text of ["from 'pkg/a.ts'", "const a = './a.ts'", "/** see './a.ts' */", "from '#platform'"]) {
    expect(rewriteSpecifiers(text)).toBe(text)
  }
})

test('a package is built after those it stands on', () => {
  const pkg = (name: string, ...on: string[]) => ({
    folder: name,
    manifest: { name, version: '1.0.0', dependencies: Object.fromEntries(on.map((other) => [other, '1.0.0'])) },
  })
  const names = (list: readonly { manifest: PackageManifest }[]) => list.map(({ manifest }) => manifest.name).join(' ')
  expect(names(inOrder([pkg('cli', 'engine', 'server'), pkg('server', 'engine', 'other'), pkg('engine')]))).toBe(
    'engine server cli',
  )
  expect(() => inOrder([pkg('a', 'b'), pkg('b', 'a')])).toThrow(/depend on each other: a, b/)
  expect(names(workspacePackages()).split(' ')[0]).toBe('@moraine/engine')
})

test('a bundle names the libraries in it, with their licences', async () => {
  const folder = join(root, 'node_modules', 'fastify')
  const modules = [join(folder, 'fastify.js'), `\0${join(folder, 'lib', 'reply.js')}?commonjs`, '/src/index.js']
  expect(librariesOf([...modules, '/p/node_modules/@scope/one/index.js'])).toEqual(
    ['/p/node_modules/@scope/one', folder].sort(),
  )
  expect(await licencesOf([folder])).toMatch(
    /^This package has code .*\n\nfastify [\d.]+ \(MIT\)\n\n.*Permission is hereby granted/s,
  )
})

describe('what is wrong with a package', () => {
  let folder: string
  const manifest = {
    name: 'fixture',
    version: '1.0.0',
    license: 'MIT',
    type: 'module',
    files: ['dist'],
    exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
  }
  const pkg = async (content: object, files: Record<string, string>) => {
    const at = await mkdtemp(join(folder, 'p-'))
    await mkdir(join(at, 'dist'))
    await writeFile(join(at, 'package.json'), JSON.stringify(content))
    for (const [name, text] of Object.entries(files)) await writeFile(join(at, 'dist', name), text)
    return { folder: at, manifest: content as PackageManifest }
  }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'moraine-build-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('a sound package is clean', async () => {
    const sound = await pkg(manifest, {
      'index.js': 'export const a = 1\n',
      'index.d.ts': 'export declare const a = 1;\n',
    })
    expect(await lintPackage(sound)).toEqual([])
    expect(await lintTypes(sound)).toEqual([])
  })

  test('publint finds what is named and not there', async () => {
    const broken = await pkg(manifest, { 'index.js': 'export const a = 1\n' })
    expect(await lintPackage(broken)).toEqual([expect.stringMatching(/fixture: publint: .*index\.d\.ts/)])
  })

  test('attw finds types that a consumer cannot resolve', async () => {
    const untyped = await pkg(
      { ...manifest, exports: { '.': './dist/index.js' } },
      { 'index.js': 'export const a = 1\n' },
    )
    expect(await lintTypes(untyped)).toEqual([expect.stringMatching(/fixture: attw ended with/)])
    const half = { ...manifest, exports: { ...manifest.exports, './b': './dist/b.js' } }
    const files = { 'index.js': '', 'index.d.ts': 'export {}\n', 'b.js': '' }
    expect(await lintTypes(await pkg(half, files))).toEqual([expect.stringMatching(/fixture: attw ended with 1/)])
    expect(await lintTypes(await pkg({ ...manifest, exports: { './package.json': './package.json' } }, {}))).toEqual([])
  })
})
