/** `moraine inspect`: what it prints, for people and for programs, and what its exit code says. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import * as images from '../../engine/test/inspect/images.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { projectRoot, run } from '../../engine/test/support/process.ts'

const folder = temporaryFolder()
const moraine = join(projectRoot, 'bin/moraine')

function put(name: string, data: Uint8Array): string {
  writeFileSync(folder.file(name), data)
  return name
}

const inspect = (...args: string[]) => run(moraine, ['inspect', ...args], { cwd: folder.file('.') })
const safe = put('safe.qcow2', images.qcow2())
const backed = put(
  'backed.qcow2',
  images.qcow2((header) => {
    header.writeBigUInt64BE(512n, 8)
    header.writeUInt32BE(11, 16)
    header.write('/etc/passwd', 512)
  }),
)
const packed = put('disk.raw.bz2', Buffer.concat([Buffer.from('BZh91AY&SY'), Buffer.alloc(1000)]))

it('says what a file is, line by line', async () => {
  expect(await inspect(safe)).toMatchObject({
    code: 0,
    stderr: '',
    stdout: `safe.qcow2: qcow2, 1 MiB (1048576 bytes): safe
  qcow2, by magic "QFI\\xfb" at 0, version 3
    version: 3
    clusterSize: 65536
    passed data-file: it has no external data file
    passed unknown-features: it needs no unknown feature (incompatible_features is "0x0")
    passed backing-file: it names no backing file
    passed header: its header is sound (cluster_bits is 16)
    passed table-sizes: its tables are within bounds (l1_size is 1)
  passed polyglot: it is one format only
`,
  })
})

it('ends with 2 when a file is not safe, or not known to be', async () => {
  const { code, stdout } = await inspect(safe, backed)
  expect(code).toBe(2)
  expect(stdout).toContain('safe.qcow2: qcow2, 1 MiB (1048576 bytes): safe\n')
  expect(stdout).toContain('backed.qcow2: qcow2, 1 MiB (1048576 bytes): not safe\n')
  expect(stdout).toContain('    backingFile: /etc/passwd\n')
  expect(stdout).toContain('    FAILED backing-file: it names a backing file (backing_file_offset is 512; rule: 0)\n')
  const unknown = await inspect(packed)
  expect(unknown).toMatchObject({ code: 2, stdout: expect.stringContaining('bzip2: not known to be safe\n') as string })
})

it('ends with 1 when a file cannot be read, and goes on', async () => {
  const { code, stdout, stderr } = await inspect('missing', backed)
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/^moraine: Could not .*'missing'.*No such file or directory\n$/),
  ])
  expect(stdout).toContain('backed.qcow2: qcow2')
  expect(await inspect()).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('at least one file name') as string,
  })
})

it('prints a list for programs, the same for standard input', async () => {
  const { code, stdout } = await inspect('--output=json', safe, backed)
  expect(code).toBe(2)
  expect(JSON.parse(stdout)).toMatchObject([
    { filename: 'safe.qcow2', format: 'qcow2', size: 262144, virtualSize: 1048576, verdict: 'passed' },
    { filename: 'backed.qcow2', verdict: 'failed', findings: [{ facts: { backingFile: '/etc/passwd' } }] },
  ])
  const text = Buffer.from(images.descriptor()).toString()
  const streamed = await run(moraine, ['inspect', '--output=json', '-'], { input: text })
  put('text.vmdk', Buffer.from(text))
  const [given] = JSON.parse((await inspect('--output=json', 'text.vmdk')).stdout) as object[]
  expect([streamed.code, JSON.parse(streamed.stdout)]).toEqual([2, [{ ...given, filename: '-' }]])
})

it('is not a command of qemu-img', async () => {
  const { code, stderr } = await run(join(projectRoot, 'bin/qemu-img'), ['inspect', folder.file(safe)])
  expect([code, stderr]).toEqual([1, expect.stringContaining('Command not found: inspect')])
  expect(readFileSync(folder.file(safe)).equals(images.qcow2())).toBe(true)
})
