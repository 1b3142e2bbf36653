/** What is shipped for running the service on a machine: systemd takes the unit, and finds little that an attacker could use. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { describeWith, tool } from '../../packages/engine/test/support/process.ts'
import { root } from '../build/workspace.ts'
import { run } from '../support/run.ts'

const unit = readFileSync(join(root, 'packaging', 'moraine.service'), 'utf8')

describeWith(['systemd-analyze'], 'the unit of systemd', () => {
  const analyze = tool('systemd-analyze').path ?? ''
  const folder = mkdtempSync(join(tmpdir(), 'moraine-unit-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'moraine.service')
  /** `verify` looks for the command, which is installed nowhere here. */
  const write = (text: string) => writeFileSync(path, text.replace('/usr/bin/moraine', join(root, 'bin', 'moraine')))

  test('is one that systemd takes without a word', async () => {
    write(unit)
    expect(await run(analyze, ['verify', '--man=no', path], folder)).toEqual({ code: 0, stdout: '', stderr: '' })
    write(unit.replace('ProtectClock=yes', 'ProtectClok=yes'))
    expect((await run(analyze, ['verify', '--man=no', path], folder)).stderr).toContain('ProtectClok')
  })

  test('leaves little that could be used against the machine', async () => {
    write(unit)
    // In tenths; below 20 is what systemd calls "OK" or "SAFE".
    const secure = await run(analyze, ['security', '--offline=yes', '--threshold=20', path], folder)
    expect([secure.code, secure.stdout.split('\n').at(-2)]).toEqual([0, expect.stringContaining('Overall exposure')])
  })
})
