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
  const sparse = await planned('convert', '-O vmdk a.raw new.vmdk')
  await call('convert -q -O vmdk a.raw new.vmdk')
  expect(readFileSync(join(folder, 'new.vmdk')).length).toBe(sparse.required)
  expect((await planned('convert', '-O raw a.qcow2 -')).writes).toEqual(['to standard output'])
})

it('resize', async () => {
  expect(await planned('resize', 'over.qcow2 +16M')).toMatchObject({ 'virtual-size': 32 << 20, lost: [] })
  expect((await planned('resize', '--shrink over.qcow2 1M')).lost).toEqual([
    'what lies from byte 1048576 on, up to 16777216',
  ])
  expect((await call('resize --dry-run over.qcow2 1M')).code).toBe(1)
  await call('create -q -f vmdk -o subformat=streamOptimized a.vmdk 1M')
  for (const line of ['resize a.vmdk 2M', 'resize --dry-run a.vmdk 2M']) expect((await call(line)).code).toBe(1)
  // The next size that a geometry has.
  await call('create -q -f vhd a.vhd 1M')
  const plan = await planned('resize', 'a.vhd 10M')
  expect(plan['virtual-size']).toBeGreaterThan(10 << 20)
  await call('resize -q a.vhd 10M')
  expect(JSON.parse((await call('info --output=json a.vhd')).stdout)['virtual-size']).toBe(plan['virtual-size'])
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

it('amend: what the image then is, also when only a password changes', async () => {
  const make =
    'create -q -f qcow2 --object secret,id=s,data=abc -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'
  await call(`${make} key.qcow2 1M`)
  await call('create -q -f qcow2 am.qcow2 1M')
  await call('bitmap --add am.qcow2 kept')
  expect(await planned('amend', '-o compat=0.10 am.qcow2')).toMatchObject({
    writes: ['compat is 0.10, and was 1.1'],
    lost: ["the dirty bitmap 'kept'"],
  })
  const wide = await planned('amend', '-o refcount_bits=64,lazy_refcounts=on,size=2M am.qcow2')
  expect(wide).toMatchObject({ 'virtual-size': 2 << 20, lost: [] })
  expect(wide.writes).toEqual(
    expect.arrayContaining(['refcount-bits is 64, and was 16', 'lazy-refcounts is on, and was off']),
  )
  await call('amend -q -o refcount_bits=64,lazy_refcounts=on,size=2M am.qcow2')
  const { length } = readFileSync(join(folder, 'am.qcow2'))
  expect(wide.writes.at(-1)).toMatch(`the file has ${length} bytes, `)
  expect((await planned('amend', '-o compat=1.1 am.qcow2')).writes).toEqual(['nothing: all of it is so already'])
  expect((await planned('amend', '-o size=1M am.qcow2')).lost).toEqual([
    'what lies from byte 1048576 on, up to 2097152',
  ])

  const secrets = '--object secret,id=s,data=abc --object secret,id=n,data=x'
  const image = '--image-opts driver=qcow2,encrypt.key-secret=s,file.filename=key.qcow2'
  const added = await planned(
    'amend',
    `${secrets} -o encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10 ${image}`,
  )
  expect(added).toMatchObject({ writes: ['key slot 1 takes the new password'], lost: [] })
  const erasing = `${secrets} -o encrypt.state=inactive,encrypt.old-secret=s ${image}`
  expect((await call(`amend --dry-run ${erasing}`)).stderr).toContain('erasing them will erase all the data')
  expect((await planned('amend', `--force ${erasing}`)).lost).toEqual([
    'the password in key slot 0',
    'all data: no password opens the image any more',
  ])
}, 60_000)

it('bitmap: each step is tried, in order', async () => {
  await call('create -q -f qcow2 bm.qcow2 1M')
  await call('bitmap --add bm.qcow2 b0')
  expect(await planned('bitmap', '--add --merge b0 --disable --remove bm.qcow2 b1')).toMatchObject({
    writes: [
      "the bitmap 'b1' is made, with 65536 bytes for each bit, and follows writes",
      "the bitmap 'b1' takes what 'b0' says is dirty, and then has 0 bytes",
      "the bitmap 'b1' follows writes no more",
      "the bitmap 'b1' is removed",
    ],
    lost: ["the bitmap 'b1', which says that 0 bytes are dirty"],
  })
  expect((await planned('bitmap', '--clear bm.qcow2 b0')).lost).toEqual([])
  expect(await call('bitmap --dry-run --remove bm.qcow2 b7')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("Operation remove on bitmap b7 failed: Dirty bitmap 'b7' not found"),
  })
  await call('bitmap --add bm.qcow2 b2')
  expect((await planned('bitmap', '--image-opts --remove driver=qcow2,file.filename=bm.qcow2 b2')).lost).toEqual([
    "the bitmap 'b2', which says that 0 bytes are dirty",
  ])
})

it('an external data file is not written either', async () => {
  await call('create -q -f qcow2 -o data_file=ext.raw ext.qcow2 1M')
  expect((await planned('amend', '-o size=2M ext.qcow2'))['virtual-size']).toBe(2 << 20)
})

it('check -r: what would be repaired, and what stays', async () => {
  await call('create -q -f qcow2 leak.qcow2 1M')
  const path = join(folder, 'leak.qcow2')
  const made = readFileSync(path)
  // A cluster at the end that is counted, and that nobody uses.
  const cluster = Math.ceil(made.length / 65_536)
  const bytes = Buffer.concat([made], (cluster + 1) * 65_536)
  const counts = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))))
  bytes.writeUInt16BE(1, counts + 2 * cluster)
  writeFileSync(path, bytes)
  expect((await call('check leak.qcow2')).code).toBe(3)
  expect(await planned('check', '-r leaks leak.qcow2')).toMatchObject({
    writes: ['1 leaked cluster is given back'],
    lost: [],
  })
  expect((await call('check leak.qcow2')).code).toBe(3)
  expect((await call('check --dry-run leak.qcow2')).stderr).toContain('--dry-run goes with -r')
  expect((await planned('check', '-r all a.qcow2')).writes).toEqual(['nothing: nothing is repaired'])
})

it('dd and bench -w', async () => {
  expect(await planned('dd', '-O qcow2 bs=1M count=2 skip=1 if=a.raw of=a.qcow2')).toMatchObject({
    'virtual-size': 2 << 20,
    writes: [expect.stringContaining('over the file'), "2097152 bytes of 'a.raw' from byte 1048576 on, zeros too"],
    lost: [expect.stringContaining('what the file that is there')],
  })
  const copied = await planned('dd', '-O qcow2 bs=1M count=2 if=a.raw of=part.qcow2')
  await call('dd -O qcow2 bs=1M count=2 if=a.raw of=part.qcow2')
  expect(readFileSync(join(folder, 'part.qcow2')).length).toBe(copied.required)
  expect(await planned('bench', '-w -c 10 -f raw a.raw')).toMatchObject({
    writes: ['10 requests of 4096 bytes 0x0, one every 4096 bytes, from byte 0 on, up to 40960'],
    lost: ['what lies there: up to 40960 bytes'],
  })
  expect((await call('bench --dry-run a.qcow2')).stderr).toContain('--dry-run goes with -w')
})

it('seed, iso create, and appliances', async () => {
  const seed = await planned('seed', '--hostname web seed.qcow2')
  expect(seed).toMatchObject({ format: 'qcow2', writes: ['a new file', expect.stringContaining('cidata')], lost: [] })
  await call('seed --hostname web seed.qcow2')
  expect(readFileSync(join(folder, 'seed.qcow2')).length).toBe(seed.required)
  expect((await planned('seed', '--hostname web seed.qcow2')).lost).toHaveLength(1)

  const iso = await planned('iso create', 'data.iso a.qcow2')
  await call('iso create data.iso a.qcow2')
  expect(readFileSync(join(folder, 'data.iso')).length).toBe(iso.required)

  expect((await planned('ova create', '--disk a.qcow2 box.ova')).writes).toEqual([
    'a new file',
    "disk 1: 'a.qcow2', 16777216 bytes, as a streamOptimized VMDK",
  ])
  await call('ova create --disk a.qcow2 box.ova')
  expect((await planned('ova set', '--cpus 2 box.ova')).lost).toHaveLength(1)
  const taken = await planned('ova extract', '--to out box.ova')
  expect(taken.writes).toEqual(expect.arrayContaining([expect.stringMatching(/^'box-disk1\.vmdk', \d+ bytes$/)]))
  expect(readdirSync(folder)).not.toContain('out')
})

it('without it, --output=json is refused where nothing is reported', async () => {
  for (const line of [
    'resize --output=json a.qcow2 +1M',
    'create --output=json x.qcow2 1M',
    'snapshot --output=json -c x a.qcow2',
  ]) {
    const before = files()
    expect(await call(line)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('goes with') })
    expect(files()).toEqual(before)
  }
})

it('reports as JSON: compare, bench and snapshot -l', async () => {
  const json = async (line: string) => {
    const { code, stdout } = await call(line)
    return { code, told: JSON.parse(stdout) as unknown }
  }
  await call('create -q -f raw zero.raw 1M')
  await call('create -q -f raw long.raw 2M')
  expect(await json('compare --output=json zero.raw long.raw')).toEqual({
    code: 0,
    told: {
      images: [
        { filename: 'zero.raw', format: 'raw', 'virtual-size': 1 << 20 },
        { filename: 'long.raw', format: 'raw', 'virtual-size': 2 << 20 },
      ],
      identical: true,
      'size-mismatch': true,
    },
  })
  expect(await json('compare --output=json a.raw long.raw')).toMatchObject({
    code: 1,
    told: { identical: false, difference: 'content', offset: 0 },
  })
  expect(await json('compare -s --output=json zero.raw long.raw')).toMatchObject({
    code: 1,
    told: { identical: false, difference: 'size' },
  })
  expect((await call('compare --output=x zero.raw long.raw')).code).toBe(2)
  expect(await json('bench --output=json -c 5 -f raw a.raw')).toMatchObject({
    code: 0,
    told: { filename: 'a.raw', operation: 'read', requests: 5, 'buffer-size': 4096, seconds: expect.any(Number) },
  })
  const { told } = await json('info --output=json a.qcow2')
  expect((await json('snapshot -l --output=json a.qcow2')).told).toEqual((told as { snapshots: unknown }).snapshots)
  expect((await json('snapshot -l --output=json over.qcow2')).told).toEqual([])
})
