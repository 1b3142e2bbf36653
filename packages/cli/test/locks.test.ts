/** Images in use: QEMU's processes keep the command out and the other way round, and it is said who holds an image. With that, errors as JSON. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { describeWith, type RunResult, run, tool } from '../../engine/test/support/process.ts'
import { compared, moraine, ourQemuImg, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-held-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const call = (line: string, program = moraine): Promise<RunResult> => run(program, words(line), { cwd: folder })
const qemuImg = (line: string): Promise<RunResult> => call(line, tool('qemu-img').path ?? 'qemu-img')

const running: ChildProcess[] = []
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL')
})

/** Starts what holds an image; returns when `ready` says that it does. */
async function holding(program: string, line: string, ready: () => Promise<boolean>): Promise<number> {
  const child = spawn(program, words(line), { cwd: folder, stdio: ['pipe', 'ignore', 'inherit'] })
  running.push(child)
  for (const end = Date.now() + 20_000; !(await ready()); await new Promise((later) => setTimeout(later, 100))) {
    if (Date.now() > end || child.exitCode !== null) throw new Error(`${program} does not hold the image`)
  }
  return child.pid ?? 0
}

/** For a raw image, which qemu-io shares with whoever asks. */
const isLocked = (image: string): boolean =>
  readFileSync('/proc/locks', 'latin1').includes(`:${statSync(join(folder, image)).ino} `)

const isHeld = async (image: string): Promise<boolean> =>
  (await qemuImg(`info ${image}`)).stderr.includes('Is another process using')

/** On images that qemu-io holds for writing: `h.qcow2` over `base.qcow2`, and `h.raw`. `OPTS` describes the first as a node. */
const heldLines = [
  'info base.qcow2',
  'info --backing-chain h.qcow2',
  'check h.qcow2',
  'check -r all h.qcow2',
  'check base.qcow2',
  'map h.qcow2',
  'measure -O raw h.qcow2',
  'compare h.qcow2 free.qcow2',
  'convert -O raw h.qcow2 out',
  'convert -O qcow2 free.qcow2 h.qcow2',
  'convert -n -O qcow2 free.qcow2 h.qcow2',
  'commit h.qcow2',
  'commit -b base.qcow2 h.qcow2',
  'commit base.qcow2',
  'rebase -b free.qcow2 -F qcow2 h.qcow2',
  'resize h.qcow2 2M',
  'resize base.qcow2 2M',
  'resize -f raw h.raw 2M',
  'snapshot -l h.qcow2',
  'snapshot -c t h.qcow2',
  'snapshot -d s h.qcow2',
  'amend -o lazy_refcounts=on h.qcow2',
  'bitmap --add h.qcow2 b',
  'bitmap --merge x -b h.qcow2 -F qcow2 free.qcow2 b',
  'bench -c 1 h.qcow2',
  'bench -w -c 1 h.qcow2',
  'dd if=h.qcow2 of=out',
  'dd if=free.qcow2 of=h.raw',
  'create -f qcow2 h.qcow2 1M',
  'create -f qcow2 -F qcow2 -b h.qcow2 over.qcow2',
  'map -U h.qcow2',
  'check -U -r all h.qcow2',
  'info OPTS,file.locking=off,file.locking=auto',
  'check OPTS,file.locking=off',
  'check OPTS,force-share=on',
  'check OPTS,file.force-share=on',
  'resize OPTS,file.force-share=on 2M',
  'resize OPTS,force-share=on 2M',
  `map 'json:{"driver":"qcow2","force-share":true,"file":{"driver":"file","filename":"h.qcow2"}}'`,
  `map 'json:{"driver":"qcow2","file":{"driver":"file","filename":"h.qcow2","locking":"off"}}'`,
  'map --image-opts driver=raw,file.filename=h.raw,file.locking=off',
  'map --image-opts driver=qcow2,file.filename=ov.qcow2,backing.driver=qcow2,backing.file.filename=h.qcow2',
  'resize --image-opts driver=qcow2,file.filename=ov.qcow2,backing.driver=qcow2,backing.file.filename=base.qcow2 2M',
  // Last, as it changes the image.
  'resize OPTS,file.locking=off +1M',
]

const locks = process.platform === 'linux' && process.env.MORAINE_NATIVE !== 'off'

if (!locks) describe.skip('images in use [skipped: no locks here]', () => it('is not tried', () => {}))
else
  describeWith(['qemu-img', 'qemu-io', 'qemu-storage-daemon'], 'images in use', () => {
    it('are named with who holds them, by a QEMU process', { timeout: 60_000 }, async () => {
      await qemuImg('create -q -f qcow2 a.qcow2 8M')
      const daemon =
        '--blockdev driver=file,node-name=f,filename=a.qcow2 --blockdev driver=qcow2,node-name=q,file=f ' +
        '--nbd-server addr.type=unix,addr.path=a.sock --export type=nbd,id=e,node-name=q,writable=on'
      const pid = await holding(tool('qemu-storage-daemon').path ?? '', daemon, () => isHeld('a.qcow2'))
      const holder = new RegExp(`^It is held by qemu-storage-.* \\(process ${pid}\\)\\.$`, 'm')
      for (const line of [
        'info',
        'check',
        'map',
        'resize a.qcow2 +1M',
        'snapshot -c x',
        'convert -O raw a.qcow2 out.raw',
      ]) {
        const { code, stderr } = await call(line.includes('a.qcow2') ? line : `${line} a.qcow2`)
        expect({ line, refused: code > 0 }).toEqual({ line, refused: true })
        expect(stderr).toMatch(/Failed to get (shared )?"write" lock/)
        expect(stderr).toMatch(holder)
      }
      expect((await call('info -U a.qcow2')).code).toBe(0)
      expect((await call('info a.qcow2')).stderr).toContain('With -U it is read all the same')
      // qemu-img does not say who.
      expect((await call('info a.qcow2', ourQemuImg)).stderr).toBe((await qemuImg('info a.qcow2')).stderr)
      const { code, stderr } = await call('--errors=json resize a.qcow2 +1M')
      expect(code).toBe(1)
      expect(JSON.parse(stderr)).toMatchObject({
        kind: 'locked',
        file: 'a.qcow2',
        hint: expect.stringMatching(holder),
        exitCode: 1,
      })
    })

    it('are refused in the words of qemu-img by every verb, and taken where locks are switched off', {
      timeout: 60_000,
    }, async () => {
      await qemuImg('create -q -f qcow2 base.qcow2 1M')
      await qemuImg('create -q -f qcow2 -F qcow2 -b base.qcow2 h.qcow2')
      await qemuImg('snapshot -c s h.qcow2')
      await qemuImg('create -q -f raw h.raw 1M')
      await qemuImg('create -q -f qcow2 free.qcow2 1M')
      await qemuImg('create -q -f qcow2 -F qcow2 -b base.qcow2 ov.qcow2')
      const qemuIo = tool('qemu-io').path ?? ''
      await holding(qemuIo, '-f qcow2 h.qcow2', () => isHeld('h.qcow2'))
      await holding(qemuIo, '-f raw h.raw', async () => isLocked('h.raw'))
      const env = { ...process.env, LC_ALL: 'C', MORAINE_CALLED_AS: 'qemu-img' }
      const opts = '--image-opts driver=qcow2,file.driver=file,file.filename=h.qcow2'
      for (const line of heldLines.map((one) => one.replace('OPTS', opts))) {
        const { code, stdout, stderr } = await qemuImg(line)
        const ours = await run(compared.program, [...compared.args, ...words(line)], { cwd: folder, env })
        expect({ line, code: ours.code, stdout: ours.stdout, stderr: ours.stderr }).toEqual({
          line,
          code,
          stdout,
          stderr,
        })
      }
    })

    it('keep QEMU out while moraine writes them', { timeout: 60_000 }, async () => {
      await qemuImg('create -q -f qcow2 b.qcow2 8M')
      const pid = await holding(moraine, 'nbd serve --socket b.sock b.qcow2', () => isHeld('b.qcow2'))
      for (const line of ['info', 'check', 'snapshot -c x']) {
        expect((await qemuImg(`${line} b.qcow2`)).stderr).toContain('Is another process using the image [b.qcow2]?')
      }
      expect((await qemuImg('info -U b.qcow2')).code).toBe(0)
      expect((await call('resize b.qcow2 +1M')).stderr).toMatch(
        new RegExp(
          `^It is held by (node main|moraine).* nbd serve \\(process ${pid}\\)\\.$|^It is held by moraine.* \\(process ${pid}\\)\\.$`,
          'm',
        ),
      )
    })
  })

describe('errors as JSON', () => {
  const json = async (line: string): Promise<unknown> => JSON.parse((await call(`--errors=json ${line}`)).stderr)

  it('are one line with all that is known', async () => {
    expect(await json('info nofile')).toMatchObject({ kind: 'missing', file: 'nofile', code: 'ENOENT', exitCode: 1 })
    expect(await json('info')).toEqual({ error: 'Expecting one image file name', kind: 'usage', exitCode: 1 })
    expect(await json('check nofile')).toMatchObject({ kind: 'missing', exitCode: 1 })
    expect(await json('create -f qcow2 -o cluster_size=3 x.qcow2 1M')).toMatchObject({
      kind: 'invalid',
      field: 'cluster_size',
    })
    expect(await json('create -f nope x 1M')).toMatchObject({
      kind: 'invalid',
      field: 'format',
      rule: expect.stringContaining('qcow2'),
    })
  })

  it('are not there under the name qemu-img', async () => {
    expect((await call('--errors=json info nofile', ourQemuImg)).stderr).toContain(
      "unrecognized option '--errors=json'",
    )
  })
})
