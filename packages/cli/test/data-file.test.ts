/** Names of external data files: relative to the working folder, when they are made and whenever they are opened, as qemu-img has it. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { describeWith, type RunResult, run, tool } from '../../engine/test/support/process.ts'
import { ourQemuImg, words } from './support/differential.ts'

/** A call, in a folder under the one of the case. */
type Call = [folder: string, line: string]

const made: Call = ['.', 'create -f qcow2 -o data_file=rel.raw sub/a.qcow2 1M']

const cases: [name: string, calls: Call[]][] = [
  [
    'opened from the folder it was made in',
    [made, ['.', 'info sub/a.qcow2'], ['.', 'map sub/a.qcow2'], ['.', 'check sub/a.qcow2']],
  ],
  [
    'opened from the folder of the image',
    [made, ['sub', 'info a.qcow2'], ['sub', 'map a.qcow2'], ['sub', 'check a.qcow2']],
  ],
  [
    'opened from another folder',
    [made, ['other', 'convert -O raw ../sub/a.qcow2 x'], ['other', 'resize ../sub/a.qcow2 2M']],
  ],
  [
    'converted, over an overlay',
    [
      ['.', 'convert -O qcow2 -o data_file=file:sub/rel.raw in.raw sub/a.qcow2'],
      ['.', 'info sub/a.qcow2'],
      ['.', 'create -q -f qcow2 -b a.qcow2 -F qcow2 sub/top.qcow2'],
      ['.', 'map --output=json sub/top.qcow2'],
      ['sub', 'map --output=json top.qcow2'],
      ['.', 'compare in.raw sub/top.qcow2'],
      ['.', 'resize sub/a.qcow2 4M'],
    ],
  ],
  [
    'with dots in the name',
    [
      ['sub', 'create -f qcow2 -o data_file=../other/.././rel.raw a.qcow2 1M'],
      ['sub', 'info a.qcow2'],
    ],
  ],
  ['in a folder that is not there', [['.', 'create -f qcow2 -o data_file=nodir/x.raw sub/a.qcow2 1M']]],
  ['without a name', [['.', 'create -f qcow2 -o data_file=,cluster_size=64k sub/a.qcow2 1M']]],
]

/** Runs the calls; what was seen, and the files that are left. */
async function seen(program: string, calls: readonly Call[]): Promise<unknown> {
  const folder = mkdtempSync(join(tmpdir(), 'moraine-data-'))
  try {
    for (const name of ['sub', 'other']) mkdirSync(join(folder, name))
    writeFileSync(join(folder, 'in.raw'), 'a'.repeat(200_704))
    const list: Pick<RunResult, 'code' | 'stdout' | 'stderr'>[] = []
    for (const [cwd, line] of calls) {
      const { code, stdout, stderr } = await run(program, words(line), { cwd: join(folder, cwd) })
      list.push({ code, stdout: stdout.replace(/disk size: .*/, ''), stderr })
    }
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
    const bytes = files
      .filter((name) => name.includes('.'))
      .map((name) => readFileSync(join(folder, name)).toString('base64'))
    return { list, files, bytes }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describeWith(['qemu-img'], 'external data files', () => {
  it.each(cases)('%s', async (_name, calls) => {
    expect(await seen(ourQemuImg, calls)).toEqual(await seen(tool('qemu-img').path ?? '', calls))
  })

  it('an image is not its own data file', async () => {
    const { list, files } = (await seen(ourQemuImg, [
      ['.', 'create -q -f qcow2 -o data_file=sub/a.qcow2 sub/../sub/a.qcow2 1M'],
    ])) as { list: RunResult[]; files: string[] }
    expect(list[0]).toMatchObject({ code: 1, stderr: expect.stringContaining('Failed to get shared "resize" lock') })
    expect(files).toEqual(['in.raw', 'other', 'sub'])
  })
})
