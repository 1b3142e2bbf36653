/** `--trace`: its grammar is qemu-img's, letter for letter; the events are those of the files of images. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg, words } from './support/differential.ts'

describeWith(['qemu-img'], '--trace, beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow2 a.qcow2 1M')
    writeFileSync(fixtures.path('plain'), '# a comment\n\n  bdrv_open_common\nnosuch\n-bdrv_open_common\n')
    writeFileSync(fixtures.path('cut'), 'bdrv_open_common')
    writeFileSync(fixtures.path('odd'), '\r\nx\r\n\na')
  })

  const ours = (line: string) =>
    run(ourQemuImg, words(line), { cwd: fixtures.folder, env: { ...process.env, MORAINE_CALLED_AS: 'qemu-img' } })

  describe('grammar, where no event is told', () => {
    for (const what of [
      'nosuch',
      'nosuch*',
      'nos?ch',
      '*nosuch',
      '-bdrv_*',
      '-nosuch',
      '-',
      'enable=',
      'enable',
      'enable=on',
      'enable=-bdrv_open_common',
      'noenable',
      'foo=1',
      'a,foo',
      'a,nox',
      'a,no',
      'a,nofile,enable=-x*',
      'nohelp,x=1',
      'a,,b',
      'a,,',
      ',a',
      ',,a',
      '=b',
      'a,=b',
      'a,id',
      'id=1x',
      'id=x,enable=a*',
      'id=x,id=1y',
      'a,?',
      'a,help',
      'help,x',
      'foo=1,help',
      'x=help',
      'enable=x,?=1',
      'events=',
      'events=absent',
      'events=.',
      'events=plain',
      'events=cut',
      'events=odd',
      'a*,events=plain',
      'file=',
      'file=absent/x',
      'file=%s.log',
      'file=%d%d.log',
      'file=x%%.log',
      'file=out.log',
      'enable=nosuch,enable=x*',
      'enable=nosuch,enable=nosuch2',
      ',,,a',
      ',,,,a',
      ',',
      'file=absent/x,file=out.log',
    ]) {
      fixtures.same(['--trace', what, 'info', '--output=json', 'a.qcow2'])
    }
    fixtures.same(['--trace', '', 'info', '--output=json', 'a.qcow2'])
    for (const line of [
      '-T',
      '--trace nosuch',
      '--trace file=absent/x nope',
      '--trace nosuch nope',
      '--trace nosuch --foo',
      '--trace foo=1 --foo',
      '--trace a,help --foo',
      '--trace bdrv_* --trace -* info --output=json a.qcow2',
      '-Tfile=absent/x --trace nosuch info --output=json a.qcow2',
      'info --trace help a.qcow2',
      'info -T help a.qcow2',
    ]) {
      fixtures.same(line)
    }
  })

  describe('events', () => {
    const list = 'bdrv_open_common\nbdrv_co_preadv_part\nbdrv_co_pwritev_part\nbdrv_co_pwrite_zeroes\n'

    it('lists them for help, each of which qemu-img has too', async () => {
      for (const line of ['--trace help nope', '-T ?', '--trace enable=help', '--tra help --foo']) {
        expect(await ours(line)).toMatchObject({ code: 0, stdout: list, stderr: '' })
      }
      const theirs = await run('qemu-img', ['--trace', 'help'])
      for (const name of list.trim().split('\n')) expect(theirs.stdout.split('\n')).toContain(name)
    })

    it('tells what is opened as qemu-img does, save addresses and flags', async () => {
      await fixtures.qemuImg('create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2')
      const line = '--trace bdrv_open_common convert -O qcow2 top.qcow2 out.qcow2'
      const names = (text: string) => [...new Set(text.match(/filename .*?" |format_name .*/g))].toSorted()
      const theirs = await run('qemu-img', words(line), { cwd: fixtures.folder })
      const our = await ours(line)
      expect(our.code).toBe(0)
      expect(names(our.stderr)).toEqual(names(theirs.stderr))
      expect(our.stderr).toMatch(/^bdrv_open_common bs 0x1 filename "top.qcow2" flags 0x0 format_name "file"$/m)
      expect(our.stderr).toMatch(/^bdrv_open_common bs 0x\w+ filename "a.qcow2" flags 0x0 format_name "file"$/m)
    })

    it('tells every read and write of the files, and changes nothing of the result', async () => {
      await fixtures.qemuIo(fixtures.path('a.qcow2'), 'write -P 7 64k 128k')
      expect(await ours('convert -O raw a.qcow2 straight.raw')).toMatchObject({ code: 0 })
      const told = await ours('--trace bdrv_co_*,file=log-%d convert -O raw a.qcow2 told.raw')
      expect(told).toMatchObject({ code: 0, stderr: '', stdout: '' })
      const same = readFileSync(fixtures.path('straight.raw')).equals(readFileSync(fixtures.path('told.raw')))
      expect(same).toBe(true)
      const again = await ours(
        '-T bdrv_co_pwritev_part,file=log -T bdrv_co_preadv_part,file=log convert -O raw a.qcow2 told.raw',
      )
      expect(again).toMatchObject({ code: 0, stderr: '', stdout: '' })
      const lines = readFileSync(fixtures.path('log'), 'utf8').trim().split('\n')
      const bytes = (event: string) =>
        lines
          .filter((line) => line.startsWith(`${event} `))
          .map((line) => /^\w+ bs 0x\w+ offset \d+ bytes (\d+) flags 0x0$/.exec(line)?.[1])
          .reduce((sum, text) => sum + Number(text), 0)
      // The first 4 KiB of a new raw file are taken, too.
      expect(bytes('bdrv_co_pwritev_part')).toBe(132 * 1024)
      expect(bytes('bdrv_co_preadv_part')).toBeGreaterThanOrEqual(128 * 1024)
      expect(lines.every((line) => /^bdrv_co_p(read|write)v_part /.test(line))).toBe(true)
    })

    it('leaves the map of a plain file as it is', async () => {
      truncateSync(fixtures.path('cut'), 0)
      writeFileSync(fixtures.path('b.raw'), new Uint8Array(8192).fill(1))
      const plain = await ours('map --output=json -f raw b.raw')
      expect(await ours('--trace nothing* map --output=json -f raw b.raw')).toEqual(plain)
    })

    it('is known to moraine too', async () => {
      const { code, stderr } = await run(moraine, ['-T', 'bdrv_open*', 'info', 'a.qcow2'], { cwd: fixtures.folder })
      expect(code).toBe(0)
      expect(stderr).toContain('bdrv_open_common bs 0x1 filename "a.qcow2" flags 0x0 format_name "file"\n')
    })
  })
})
