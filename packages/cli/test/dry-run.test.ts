/** `--dry-run`: the plan is told, what the verb really does afterwards agrees with it, and nothing is written before. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type RunResult, run } from '../../engine/test/support/process.ts'
import { moraine, ourQemuImg, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-dry-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const call = (line: string, program = moraine): Promise<RunResult> => run(program, words(line), { cwd: folder })
const files = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder).map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  )

interface Plan {
  'dry-run': true
  format: string
  'virtual-size': number
  options: Record<string, string>
  required: number
  writes: string[]
  lost: string[]
}

/** The plan of a call, as JSON; for people it says the same, and neither writes. */
async function planned(verb: string, rest: string): Promise<Plan> {
  const before = files()
  const told = await call(`${verb} --dry-run --output=json ${rest}`)
  const shown = await call(`${verb} --dry-run ${rest}`)
  expect(files()).toEqual(before)
  expect(told).toMatchObject({ code: 0, stderr: '' })
  const plan = JSON.parse(told.stdout) as Plan
  expect(plan['dry-run']).toBe(true)
  expect(shown.stdout).toMatch(/, as a dry run:\n(.*\n)+Nothing was written\.\n$/)
  for (const sentence of [...plan.writes, ...plan.lost]) expect(shown.stdout).toContain(sentence)
  return plan
}

beforeAll(async () => {
  writeFileSync(join(folder, 'a.raw'), Buffer.alloc(3 << 20, 'data'))
  truncateSync(join(folder, 'a.raw'), 16 << 20)
  await call('convert -q -O qcow2 a.raw a.qcow2')
  await call('snapshot -c one a.qcow2')
  await call('create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2')
})

it('create', async () => {
  const plan = await planned('create', '-f qcow2 -o cluster_size=4k new.qcow2 1G')
  expect(plan).toMatchObject({ format: 'qcow2', 'virtual-size': 1 << 30, options: { cluster_size: '4096' }, lost: [] })
  const over = await planned('create', '-f raw a.raw 1M')
  expect(over.lost).toEqual(['what the file that is there (16 MiB) holds now'])
  const wrong = await call('create --dry-run -f qcow2 -o cluster_size=3 x.qcow2 1M')
  expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('cluster') })
})

it('convert: the size is what the file then has, and losses are told', async () => {
  const plan = await planned('convert', '-O qcow2 a.qcow2 copy.qcow2')
  expect(plan.lost).toEqual([expect.stringContaining('1 internal snapshot is not copied')])
  await call('convert -q -O qcow2 a.qcow2 copy.qcow2')
  const { length } = readFileSync(join(folder, 'copy.qcow2'))
  expect(length).toBe(plan.required)
  expect((await planned('convert', '-O vmdk a.raw new.vmdk')).required).toBeUndefined()
  expect((await planned('convert', '-O raw a.qcow2 -')).writes).toEqual(['to standard output'])
})

it('resize', async () => {
  expect(await planned('resize', 'over.qcow2 +16M')).toMatchObject({ 'virtual-size': 32 << 20, lost: [] })
  expect((await planned('resize', '--shrink over.qcow2 1M')).lost).toEqual([
    'what lies from byte 1048576 on, up to 16777216',
  ])
  expect((await call('resize --dry-run over.qcow2 1M')).code).toBe(1)
  await call('create -q -f vmdk a.vmdk 1M')
  for (const line of ['resize a.vmdk 2M', 'resize --dry-run a.vmdk 2M']) expect((await call(line)).code).toBe(1)
})

it('snapshot', async () => {
  expect((await planned('snapshot', '-a one a.qcow2')).lost).toHaveLength(1)
  expect((await planned('snapshot', '-d one a.qcow2')).writes).toEqual(["'one' is deleted; 0 of 1 snapshots stay"])
  expect((await planned('snapshot', '-c two a.qcow2')).lost).toEqual([])
  expect((await call('snapshot --dry-run -d two a.qcow2')).code).toBe(1)
})

it('rebase and commit', async () => {
  expect((await planned('rebase', '-b copy.qcow2 -F qcow2 over.qcow2')).lost).toEqual([])
  expect((await planned('rebase', '-u -b copy.qcow2 -F qcow2 over.qcow2')).lost).toHaveLength(1)
  const plan = await planned('commit', 'over.qcow2')
  expect(plan.writes).toEqual([
    "'a.qcow2' takes what 'over.qcow2' and the images between them hold",
    "'over.qcow2' is emptied",
  ])
})

it('is not there under the name qemu-img', async () => {
  expect((await call('resize --dry-run a.qcow2 +1M', ourQemuImg)).stderr).toContain("'--dry-run'")
})
