/** `npm run test:packages`, after `npm run build`: packs the packages as npm would publish them, installs the tarballs in an empty folder,
 *  and uses them there as a stranger would: the command, the library, its types. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { rolldown } from 'rolldown'
import { installPackages, must, packPackages } from './build/pack.ts'
import { nodeProgram, root, workspacePackages } from './build/workspace.ts'
import { run } from './support/run.ts'
import { startService } from './support/service.ts'

/** A program of somebody who has installed the engine. */
const usesEngine = `import { allFormats, openDisk, planConversion, raw, type Disk } from '@moraine/engine'
import { fileGate, nodeCodecs, openFile } from '@moraine/engine/node'

const source = await openFile('a.raw')
const disk: Disk = await openDisk(source, { formats: allFormats, format: 'raw', codecs: nodeCodecs, gate: fileGate() })
const plan = await planConversion(disk, { format: raw })
console.log(disk.size, plan.losses.length)
await disk.close()
`

const packages = workspacePackages()
const folder = await mkdtemp(join(tmpdir(), 'moraine-packed-'))
// The commands start with `#!/usr/bin/env node`: the pinned one comes first.
process.env.PATH = `${dirname(nodeProgram())}${delimiter}${process.env.PATH ?? ''}`
try {
  const tarballs = await packPackages(join(folder, 'tarballs'))
  await testCommand(join(folder, 'command'), tarballs)
  await testEngine(join(folder, 'engine'), tarballs)
  console.log('packed packages: ok')
} finally {
  await rm(folder, { recursive: true, force: true })
}

function expect(what: string, ok: boolean): void {
  if (!ok) throw new Error(`packed packages: ${what}: no`)
  console.log(`packed packages: ${what}: yes`)
}

/** The command alone, from all tarballs: it makes an image, converts it (compressed, so that the worker threads of the built package run)
 *  and gives the same bytes back. */
async function testCommand(into: string, tarballs: Map<string, string>): Promise<void> {
  await installPackages(into, tarballs.values())
  const moraine = (...args: string[]) => must(into, join('node_modules', '.bin', 'moraine'), ...args)

  const version = packages.find(({ manifest }) => manifest.name === 'moraine')?.manifest.version ?? '?'
  expect('the command tells its version', (await moraine('--version')).includes(version))

  const bytes = Buffer.concat([randomBytes(3 << 20), Buffer.alloc(5 << 20), Buffer.alloc(1 << 20, 'moraine ')])
  await writeFile(join(into, 'a.raw'), bytes)
  await moraine('convert', '-f', 'raw', '-O', 'qcow2', '-c', 'a.raw', 'b.qcow2')
  const info = JSON.parse(await moraine('info', '--output=json', 'b.qcow2')) as Record<string, unknown>
  expect('info reads the image', info.format === 'qcow2' && info['virtual-size'] === bytes.length)
  await moraine('convert', '-O', 'raw', 'b.qcow2', 'c.raw')
  await moraine('check', 'b.qcow2')
  expect('convert there and back keeps the bytes', bytes.equals(await readFile(join(into, 'c.raw'))))

  const unread = await run(join('node_modules', '.bin', 'moraine'), ['ubuntu', 'list', '--mirror', '.'], into)
  expect(
    'catalogues are known, and the key of Ubuntu is there',
    unread.stderr.includes('no catalogue of simplestreams'),
  )

  const service = await startService(join(into, 'node_modules', '.bin', 'moraine'), join(into, 'service'))
  try {
    const answer = await fetch(`${service.url}/v2/images`)
    expect('the service answers', ((await answer.json()) as { images: unknown[] }).images.length === 0)
  } finally {
    await service.stop()
  }
}

/** The installed engine in a browser's bundle: the modules of the build are joined, and still a page that passes raw alone is not sent
 *  qcow2, and nothing of Node either. */
async function bundlePage(folder: string, formats: string): Promise<string> {
  await writeFile(
    join(folder, 'page.js'),
    `import { openDisk, ${formats} } from '@moraine/engine'
     export const open = (source) => openDisk(source, { formats: [${formats}] })`,
  )
  const bundle = await rolldown({ input: join(folder, 'page.js'), platform: 'browser', logLevel: 'silent' })
  const { output } = await bundle.generate({ format: 'esm' })
  await bundle.close()
  return output.map((item) => (item.type === 'chunk' ? item.code : '')).join('\n')
}

/** The engine alone: nothing else is installed, its types hold without the sources, and a program on it runs. */
async function testEngine(into: string, tarballs: Map<string, string>): Promise<void> {
  const engine = tarballs.get('@moraine/engine')
  if (engine === undefined) throw new Error('the engine was not packed')
  await installPackages(into, [engine])
  const installed = (await readdir(join(into, 'node_modules'))).filter((name) => !name.startsWith('.'))
  expect('the engine installs alone', installed.join() === '@moraine')

  const config = {
    compilerOptions: {
      target: 'es2024',
      module: 'nodenext',
      strict: true,
      noEmit: true,
      types: ['node'],
      typeRoots: [join(root, 'node_modules', '@types')],
    },
    files: ['use.ts'],
  }
  await writeFile(join(into, 'use.ts'), usesEngine)
  await writeFile(join(into, 'tsconfig.json'), JSON.stringify(config))
  await writeFile(join(into, 'a.raw'), Buffer.alloc(1 << 20))
  await must(into, join(root, 'node_modules', '.bin', 'tsc'), '-p', 'tsconfig.json', '--pretty', 'false')
  expect("the engine's types hold", true)
  expect('a program on the engine runs', (await must(into, nodeProgram(), 'use.ts')).trim() === `${1 << 20} 0`)

  const [page, whole] = [await bundlePage(into, 'raw'), await bundlePage(into, 'raw, qcow2')]
  expect('a page with qcow2 is sent it', whole.includes('refcount_bits'))
  expect('a page without qcow2 is not', !page.includes('refcount_bits') && page.length < whole.length / 2)
  expect('neither is sent anything of Node', !/\bnode:|koffi/.test(page + whole))
}
