/** `bitmap` beside qemu-img. */

import { type DirtyRange, openDisk, qcow2 } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io', 'qemu-nbd'], 'bitmap', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow2 q.qcow2 4M')
    for (const name of ['b0', 'b1', 'b2']) await fixtures.qemuImg(`bitmap --add q.qcow2 ${name}`)
    await fixtures.qemuImg('bitmap --add -g 4k q.qcow2 fine')
    await fixtures.qemuImg('bitmap --disable q.qcow2 b2')
    await fixtures.qemuIo('q.qcow2', 'write -q 64k 10k', 'write -q 1M 300k', 'write -q 3M 1M')
    await fixtures.qemuImg('bitmap --clear q.qcow2 b1')
    await fixtures.qemuIo('q.qcow2', 'write -q 2M 4k')
    await fixtures.qemuImg('create -q -f qcow2 p.qcow2 8M')
    await fixtures.qemuImg('bitmap --add p.qcow2 b0')
    await fixtures.qemuImg('create -q -f qcow2 same.qcow2 4M')
    await fixtures.qemuImg('bitmap --add -g 512 same.qcow2 s0')
    await fixtures.qemuIo('same.qcow2', 'write -q 2500k 1k', 'write -q 0 512')
    await fixtures.qemuImg('create -q -f raw r.raw 1M')
    await fixtures.qemuImg('create -q -f qcow2 -o compat=0.10 v2.qcow2 1M')
  })
  const files = 'q.qcow2 p.qcow2 same.qcow2 r.raw v2.qcow2'
  /** Where things lie is not the same: bitmaps are replaced here, and written over by QEMU. */
  const free = {
    files: false,
    normalize: (text: string) =>
      text
        .replace(/Image end offset: .*|#block\d+|'(v2.qcow2|r.raw)' persistent|q\.qcow2: O/g, '')
        .replace(/disk size: .*/g, '')
        .replace(/(persistent in|bitmaps to) \S*/g, '$1'),
  }

  for (const line of [
    '',
    'q.qcow2',
    'q.qcow2 b0',
    '--add q.qcow2 a b',
    '--add q.qcow2 b0',
    '--add -g 511 q.qcow2 n',
    '--add -g x q.qcow2 n',
    '--add -g 4G q.qcow2 n',
    '--add -g 1000 q.qcow2 n',
    '--disable q.qcow2 nope',
    '--enable q.qcow2 nope',
    '--remove q.qcow2 nope',
    '--clear q.qcow2 nope',
    '--merge nope q.qcow2 b0',
    '--merge b0 q.qcow2 nope',
    '--add -b p.qcow2 q.qcow2 n',
    '--merge b0 -b p.qcow2 q.qcow2 b0',
    '--merge b9 -b p.qcow2 q.qcow2 b0',
    '--merge b0 -b p.qcow2 -F nope q.qcow2 b0',
    '--merge b0 -F qcow2 q.qcow2 b0',
    '-g 512 --clear q.qcow2 b0',
    '--add r.raw b0',
    '--clear r.raw b0',
    '--add v2.qcow2 b0',
    '--frob q.qcow2 b',
    '--add nope b',
    '--clear -b p.qcow2 q.qcow2 b1',
  ]) {
    fixtures.sameOnCopies(files, `bitmap ${line}`, free)
  }
  fixtures.sameOnCopies(files, [['bitmap', '--add', 'q.qcow2', '']], free)
  fixtures.sameOnCopies(files, [['bitmap', '--add', 'q.qcow2', 'x'.repeat(1024)]], free)

  const looks = ['info --output=json q.qcow2', 'check q.qcow2', 'measure -O qcow2 q.qcow2']
  for (const actions of [
    ['--add q.qcow2 n'],
    ['--add -g 512 q.qcow2 n', '--remove q.qcow2 b0'],
    ['--add --disable q.qcow2 n'],
    ['--remove --add q.qcow2 b0'],
    ['--remove q.qcow2 b0', '--remove q.qcow2 b1', '--remove q.qcow2 b2', '--remove q.qcow2 fine'],
    ['--clear --merge b0 --merge b1 --enable --disable q.qcow2 b2'],
    ['--merge b0 q.qcow2 b0'],
    ['--merge s0 -b same.qcow2 q.qcow2 b1'],
    ['--disable q.qcow2 b0', '--enable q.qcow2 b2'],
  ]) {
    fixtures.sameOnCopies(files, [...actions.map((action) => `bitmap ${action}`), ...looks], {
      ...free,
      normalize: (text) => free.normalize(text).replace(/"actual-size": \d+|"image-end-offset": \d+/g, ''),
    })
  }

  /** What a bitmap says is dirty. */
  async function dirty(file: string, name: string): Promise<DirtyRange[]> {
    const disk = await openDisk(await openFile(fixtures.path(file)), { formats: [qcow2] })
    try {
      const found: DirtyRange[] = []
      for await (const batch of disk.bitmaps?.ranges(name) ?? []) found.push(...batch)
      return found
    } finally {
      await disk.close()
    }
  }

  it('merges what QEMU merges: the union is as large on both sides', async () => {
    const cwd = fixtures.folder
    for (const [program, target] of [
      ['qemu-img', 'theirs'],
      [ourQemuImg, 'ours'],
    ] as const) {
      const image = `${target}.qcow2`
      await fixtures.qemuImg(`convert --bitmaps -O qcow2 q.qcow2 ${image}`)
      const merge = ['bitmap', '--add', '--merge', 'b0', '--merge', 'b1', '--merge', 'fine', image, 'all']
      expect(await run(program, merge, { cwd })).toMatchObject({ code: 0, stderr: '' })
      await fixtures.qemuImg(`check -q ${image}`)
    }
    const merged = await dirty('theirs.qcow2', 'all')
    expect(merged.length).toBeGreaterThan(2)
    expect(await dirty('ours.qcow2', 'all')).toEqual(merged)
    expect(await run(moraine, ['bitmap', '--clear', 'ours.qcow2', 'all'], { cwd })).toMatchObject({ code: 0 })
    expect(await dirty('ours.qcow2', 'all')).toEqual([])
    await fixtures.qemuImg('check -q ours.qcow2')
  })
})
