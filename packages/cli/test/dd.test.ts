/** `dd` beside qemu-img. */
import { statSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'dd', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw r.raw 1M')
    await fixtures.qemuIo('r.raw', 'write -q -P 7 0 100k')
    await fixtures.qemuImg('convert -O qcow2 r.raw q.qcow2')
  })

  for (const line of [
    '',
    'if=r.raw',
    'of=x',
    'if=nope of=x',
    'foo if=r.raw of=x',
    'foo=1 if=r.raw of=x',
    'bs=x if=r.raw of=x',
    'bs=0 if=r.raw of=x',
    'bs=-1 if=r.raw of=x',
    'bs=2G if=r.raw of=x',
    'count=-1 if=r.raw of=x',
    'skip=x if=r.raw of=x',
    'count=0 if=r.raw of=x',
    'count=1 bs=1M if=r.raw of=y',
    'count=1 bs=1k skip=2000 if=r.raw of=z',
    'bs=64k skip=1 if=r.raw of=w',
    'bs=64k count=4 skip=2 if=q.qcow2 of=v',
    'bs=64k count=4 skip=4 if=q.qcow2 of=v',
    'bs=64k count=4 skip=14 if=q.qcow2 of=v',
    'bs=64k skip=16 if=q.qcow2 of=v',
    'bs=64k count=400 if=q.qcow2 of=v',
    'bs=64k count=400 if=q.qcow2 of=nope/v',
    '-O qcow2 bs=64k count=2 if=r.raw of=w2',
    '-O qcow2 bs=1000 count=3 if=q.qcow2 of=w2',
    '-O qcow2 bs=1M if=q.qcow2 of=w2',
    '-O nope if=r.raw of=w3',
    '-f nope if=r.raw of=w3',
    '-O bochs if=r.raw of=w3',
    'bs=1000 if=r.raw of=w4',
    'bs=1k bs=2k if=r.raw of=x',
    'bs=512 count=3 if=r.raw of=w10',
    '-x',
    '--image-opts if=driver=raw,file.filename=r.raw of=w7',
    '-U if=r.raw of=w8',
  ]) {
    fixtures.sameOnCopies('r.raw q.qcow2', `dd ${line}`)
  }

  it('called as moraine, copies as many blocks as were asked for', async () => {
    const operands = ['bs=64k', 'count=4', 'skip=2', 'if=q.qcow2', 'of=counted']
    expect(await run(moraine, ['dd', ...operands], { cwd: fixtures.folder })).toMatchObject({ code: 0, stderr: '' })
    expect(statSync(fixtures.path('counted')).size).toBe(4 * 65_536)
  })

  it('does not write into what it reads', async () => {
    const { code, stderr } = await run(moraine, ['dd', 'if=r.raw', 'of=r.raw'], { cwd: fixtures.folder })
    expect(code).toBe(1)
    expect(stderr).toContain('It is what this command reads from')
  })
})
