/** What a browser is sent: only the formats that were passed, and nothing of Node. */
import { resolve } from 'node:path'
import { type OutputChunk, rolldown } from 'rolldown'
import { expect, test } from 'vitest'

const source = resolve(import.meta.dirname, '../../src')
const entry = '\0entry'

/** Bundles a page that opens a disk with the given formats, as a browser's bundler would; the modules that are in it. */
async function bundle(formats: string): Promise<{ code: string; modules: string[]; imports: string[] }> {
  const page = `import { openDisk, ${formats} } from '@moraine/engine'
    export const open = (source) => openDisk(source, { formats: [${formats}] })`
  const warnings: string[] = []
  const build = await rolldown({
    input: entry,
    platform: 'browser',
    resolve: { conditionNames: ['browser', 'source', 'import'] },
    plugins: [
      {
        name: 'page',
        resolveId: (id) => (id === entry ? id : id === '@moraine/engine' ? resolve(source, 'index.ts') : null),
        load: (id) => (id === entry ? page : null),
      },
    ],
    onLog: (_, log) => warnings.push(log.message),
  })
  const { output } = await build.generate({ format: 'esm' })
  await build.close()
  expect(warnings).toEqual([])
  const chunks = output.filter((item): item is OutputChunk => item.type === 'chunk')
  return {
    code: chunks.map(({ code }) => code).join('\n'),
    modules: chunks.flatMap(({ modules }) =>
      Object.entries(modules)
        .filter(([id, { renderedLength }]) => id.startsWith(source) && renderedLength > 0)
        .map(([id]) => id.slice(source.length + 1)),
    ),
    // What a format does comes in files of its own, when it is asked for.
    imports: chunks
      .flatMap(({ imports, dynamicImports }) => [...imports, ...dynamicImports])
      .filter((name) => !chunks.some(({ fileName }) => fileName === name)),
  }
}

test('a page that passes raw alone is not sent qcow2', async () => {
  const { code, modules, imports } = await bundle('raw')
  expect(modules).toContain('format/raw/index.ts')
  expect(modules.filter((path) => path.startsWith('format/') && !path.startsWith('format/raw/'))).toEqual([
    'format/format.ts',
    'format/open-disk.ts',
    'format/first-block.ts',
  ])
  expect(modules.filter((path) => path.startsWith('platform/node'))).toEqual([])
  expect(imports).toEqual([])
  expect(code).not.toMatch(/\bnode:|koffi/)
})

test('a page that passes qcow2 is sent it, and nothing of Node either', async () => {
  const { code, modules, imports } = await bundle('raw, qcow2')
  expect(modules).toContain('format/qcow2/index.ts')
  expect(modules.filter((path) => path.startsWith('platform/node'))).toEqual([])
  expect(imports).toEqual([])
  expect(code).not.toMatch(/\bnode:|koffi/)
})
