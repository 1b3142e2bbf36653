/** Hints with common mistakes, which qemu-img does not give. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { run } from '../../engine/test/support/process.ts'
import { moraine, ourQemuImg, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-hints-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const said = async (line: string, program = moraine): Promise<string> =>
  (await run(program, words(line), { cwd: folder })).stderr

it('growing an image of version 2 with snapshots: what to do, and that does it', async () => {
  await said('create -q -f qcow2 -o compat=0.10 v2.qcow2 1M')
  await said('snapshot -c s v2.qcow2')
  expect(await said('resize v2.qcow2 +1M')).toContain("\n'amend -o compat=1.1' makes it version 3")
  expect(await said('resize v2.qcow2 +1M', ourQemuImg)).toBe("qemu-img: Can't resize a v2 image which has snapshots\n")
  expect(await said('amend -o compat=1.1 v2.qcow2')).toBe('')
  expect(await said('resize v2.qcow2 +1M')).toBe('')
})

it('a backing file without its format', async () => {
  expect(await said('create -f qcow2 -b v2.qcow2 over.qcow2')).toContain('say so: -F qcow2\n')
  expect(await said('convert -O qcow2 -B v2.qcow2 v2.qcow2 over.qcow2')).toContain('Say it with -F')
})

it('a VHD that Azure would refuse', async () => {
  expect(await said('create -f vhd -o subformat=fixed a.vhd 10M')).toContain('--for azure')
  expect(await said('create -f vhd -o subformat=fixed,force_size=on a.vhd 10M')).toBe('')
  expect(await said('create -f vhd -o subformat=fixed a.vhd 10M', ourQemuImg)).toBe('')
  expect(await said('create -q --for azure a.vhd 10M')).toBe('')
  expect(await said('convert -O vhd -o subformat=fixed v2.qcow2 a.vhd')).toContain('--for azure')
})
