/** FAT volumes: what moraine writes, fsck.fat finds sound and mtools reads. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { type FatVolumeOptions, isMoraineError, MemoryStore, type NewEntry, planFatVolume } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, run, runOk } from '../support/process.ts'
import { bytesOf, entriesOf, type Tree, treeTime } from './support/iso.ts'

const folder = temporaryFolder()
const utf8 = { env: { ...process.env, LC_ALL: 'C.UTF-8', MTOOLS_SKIP_CHECK: '1', TZ: 'UTC' } }

const tree: Tree = {
  'user-data': '#cloud-config\n',
  'meta-data': '{}',
  'NETWORK.CFG': 'short',
  empty: '',
  'EFI/BOOT/BOOTX64.EFI': new Uint8Array(100_001).map((_, at) => at * 3),
  'openstack/latest/meta_data.json': '{"uuid": "1"}',
  'grüße/ünïcödé-名前.txt': 'name',
  [`long/${'exactly thirteen'.repeat(15)}.text`]: 'long',
  'long/exactly13char': 'no filler',
  'folder/bare/': '',
  ...Object.fromEntries(Array.from({ length: 200 }, (_, at) => [`many/file number ${at} of many.text`, `${at}`])),
}

/** The volume in a file, as sparse as it is. */
async function write(
  entries: readonly NewEntry[],
  options: FatVolumeOptions = {},
): Promise<{ file: string; bits: number }> {
  const plan = planFatVolume(entries, { time: treeTime, label: 'CIDATA', ...options })
  const file = folder.fresh('.fat')
  const handle = await open(file, 'w')
  const zeros = Buffer.alloc(1 << 20)
  let at = 0
  for await (const chunk of plan.chunks()) {
    const zero = Buffer.compare(chunk, zeros.subarray(0, chunk.length)) === 0
    if (!zero) await handle.write(chunk, 0, chunk.length, at)
    at += chunk.length
  }
  await handle.truncate(at)
  await handle.close()
  expect(at, 'the length that was promised').toBe(plan.length)
  return { file, bits: plan.bits }
}

async function expectSound(file: string): Promise<void> {
  const { code, stdout, stderr } = await run('fsck.fat', ['-n', file], utf8)
  expect(code, stdout + stderr).toBe(0)
  expect(stdout).not.toMatch(/dirty|wrong|differ|orphan|bad|Unused|Reclaim/i)
}

/** Every file's content through mtools. */
async function contents(file: string): Promise<Record<string, string>> {
  const target = folder.fresh()
  await runOk('sh', ['-c', 'mkdir "$1" && mcopy -s -n -i "$0" "::*" "$1"', file, target], utf8)
  const list = await runOk('sh', ['-c', 'cd "$0" && find . -type f -exec sha256sum {} +', target])
  const found: Record<string, string> = {}
  for (const line of list.trimEnd().split('\n')) {
    // sha256sum escapes lines with backslashes; there are none in these names.
    const [sha = '', path = ''] = line.split('  ./')
    found[path] = sha
  }
  return found
}

function shas(files: Tree): Record<string, string> {
  const entries = Object.entries(files).filter(([path]) => !path.endsWith('/'))
  return Object.fromEntries(
    entries.map(([path, content]) => [path, createHash('sha256').update(content).digest('hex')]),
  )
}

describeWith(['fsck.fat', 'mcopy', 'mdir', 'mlabel'], 'FAT volumes', () => {
  it.each([
    [{}, 12],
    [{ size: 1_474_560 }, 12],
    [{ size: 16 << 20 }, 16],
    [{ size: 512 << 20 }, 32],
    [{ bits: 32, size: 40 << 20 }, 32],
    [{ bits: 16, size: 5 << 20 }, 16],
  ] as const)('%j: sound, and hold what was written', async (options, bits) => {
    const made = await write(entriesOf(tree), options)
    expect(made.bits).toBe(bits)
    await expectSound(made.file)
    expect(await contents(made.file)).toEqual(shas(tree))
    expect(await runOk('mlabel', ['-s', '-i', made.file, '::'], utf8)).toMatch(/Volume label is CIDATA/)
  })

  it('have names, times and attributes', async () => {
    const { file } = await write([
      ...entriesOf({
        'user-data': 'u',
        'A.TXT': 'a',
        'a longer name.text': 'b',
        'A LONGER NAME.texts': 'c',
        '.hidden': 'd',
      }),
      { path: 'read-only', kind: 'file', size: 0, mode: 0o444, open: async () => MemoryStore.from(new Uint8Array(0)) },
    ])
    const list = await runOk('mdir', ['-i', file, '::'], utf8)
    expect(list).toMatch(/^USER-D~1 +1 2023-11-14 +22:13 +user-data$/m)
    expect(list).toMatch(/^A +TXT +1 2023-11-14 +22:13 *$/m)
    expect(list).toMatch(/^ALONGE~1 TEX .* A LONGER NAME.texts$/m)
    expect(list).toMatch(/^ALONGE~2 TEX .* a longer name.text$/m)
    expect(list).toMatch(/^HIDDEN~1 .* \.hidden$/m)
    expect(await runOk('mattrib', ['-i', file, '::read-only'], utf8)).toMatch(/^ +A? *R +/)
  })

  it('are the same each time', async () => {
    const options = { time: treeTime, label: 'X' }
    const one = await bytesOf(planFatVolume(entriesOf(tree), options))
    const other = await bytesOf(planFatVolume(entriesOf(tree).toReversed(), options))
    expect(Buffer.compare(one, other)).toBe(0)
  })

  it('are filled to the last cluster', async () => {
    const empty = planFatVolume([], { size: 1 << 20, time: 0 })
    expect(empty.length).toBe(1 << 20)
    let low = 0
    let high = 1 << 20
    while (high - low > 1) {
      const middle = (low + high) >> 1
      try {
        planFatVolume(entriesOf({ a: new Uint8Array(middle) }), { size: 1 << 20 })
        low = middle
      } catch {
        high = middle
      }
    }
    const { file } = await write(entriesOf({ a: new Uint8Array(low).fill(1) }), { size: 1 << 20 })
    await expectSound(file)
    expect(await runOk('mdir', ['-i', file, '::'], utf8)).toMatch(/ 0 bytes free/)
  })

  it('have many names in their roots', async () => {
    const many = Object.fromEntries(
      Array.from({ length: 700 }, (_, at) => [`a rather long name of the file ${at}`, `${at}`]),
    )
    for (const bits of [12, 32] as const) {
      const { file } = await write(entriesOf(many), bits === 32 ? { bits, size: 40 << 20 } : { bits })
      await expectSound(file)
      expect(await contents(file)).toEqual(shas(many))
    }
  })
})

describe('FAT volumes that cannot be made', () => {
  const file = (path: string): NewEntry => ({
    path,
    kind: 'file',
    size: 4,
    open: async () => MemoryStore.from(new Uint8Array(4)),
  })
  const cases: (readonly [string, () => NewEntry[], FatVolumeOptions, string, string])[] = [
    ['names of one case or the other', () => [file('a'), file('A')], {}, 'invalid', 'path'],
    ['a colon in a name', () => [file('a:b')], {}, 'invalid', 'path'],
    ['a dot at the end', () => [file('a.')], {}, 'invalid', 'path'],
    ['a link', () => [{ path: 'a', kind: 'symlink', target: 'b' }], {}, 'invalid', 'path'],
    ['a path upwards', () => [file('../a')], {}, 'invalid', 'path'],
    ['a file of 4 GiB', () => [{ ...file('a'), size: 2 ** 32 }], {}, 'limit', '/a'],
    ['more than fits', () => [{ ...file('a'), size: 2 << 20 }], { size: 1 << 20 }, 'limit', 'size'],
    ['too little for its kind', () => [file('a')], { size: 1 << 20, bits: 32 }, 'limit', 'size'],
    ['half a sector', () => [file('a')], { size: 1000 }, 'invalid', 'size'],
    ['a label of twelve characters', () => [file('a')], { label: 'x'.repeat(12) }, 'invalid', 'label'],
    ['a dot in the label', () => [file('a')], { label: 'a.b' }, 'invalid', 'label'],
  ]
  it.each(cases)('%s', (_name, entries, options, kind, field) => {
    let error: unknown
    try {
      planFatVolume(entries(), options)
    } catch (caught) {
      error = caught
    }
    expect(isMoraineError(error) && [error.kind, error.field]).toEqual([kind, field])
  })

  it('a file that changes under way', async () => {
    const grown = { ...file('a'), open: async () => MemoryStore.from(new Uint8Array(5), 'grown') }
    await expect(bytesOf(planFatVolume([grown]))).rejects.toMatchObject({ kind: 'io', field: 'size' })
  })
})
