/** `--object`: every kind that QEMU's schema knows, with right and wrong properties, beside qemu-img; keys of the kernel, and a helper for reservations. */
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { readKey } from '../../engine/src/platform/node/key-ring.ts'
import { describeWith, run, runOk } from '../../engine/test/support/process.ts'
import { Failure } from '../src/failure.ts'
import { defineObject } from '../src/objects/define.ts'
import { noObjects, type Objects } from '../src/objects/objects.ts'
import { Fixtures, ourQemuImg } from './support/differential.ts'
import { jsons, texts } from './support/object-definitions.ts'

const never = new AbortController().signal

/** What ours says of definitions: a text that they ask for, or what is wrong with them. */
async function answer(definitions: readonly string[], objects: Objects = noObjects()): Promise<string> {
  try {
    for (const definition of definitions) {
      const said = await defineObject(definition, objects, never)
      if (said !== undefined) return said
    }
    return ''
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return `qemu-img: ${error.message}\n${error.hint === undefined ? '' : `${error.hint}\n`}`
  }
}

describeWith(['qemu-img'], 'definitions of objects', () => {
  const fixtures = new Fixtures()
  const folder = process.cwd()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw a.raw 1M')
    process.chdir(fixtures.folder)
  })
  afterAll(() => process.chdir(folder))

  /** What the real one says of them, or nothing when it goes on and looks at an image. */
  async function theirs(definitions: readonly string[]): Promise<string> {
    const objects = definitions.flatMap((definition) => ['--object', definition])
    const { stdout, stderr } = await run('qemu-img', ['info', ...objects, 'a.raw'], { cwd: fixtures.folder })
    return stderr + (stdout.startsWith('image: ') ? '' : stdout)
  }

  for (const line of [...texts.map((text) => text.split(' --object ')), ...jsons.map((text) => [text])]) {
    it(line.join(' --object '), async () => {
      expect(await answer(line)).toBe(await theirs(line))
    })
  }

  it('that ask for help end the call with 0', async () => {
    for (const line of ['info --object help', 'compare --object secret,help', 'create --object help x']) {
      const [real, ours] = await Promise.all([run('qemu-img', line.split(' ')), run(ourQemuImg, line.split(' '))])
      expect(ours).toMatchObject({ code: 0, stdout: real.stdout, stderr: '' })
    }
  })

  it('of a helper for reservations greet it', async () => {
    for (const hello of [Buffer.alloc(4), Buffer.from([0, 0, 0, 1]), Buffer.alloc(2)]) {
      const heard: Buffer[] = []
      const path = fixtures.path('helper')
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('data', (bytes) => heard.push(bytes)).on('end', () => socket.end())
        if (hello.length < 4) socket.end(hello)
        else socket.write(hello)
      })
      await new Promise<void>((resolve) => server.listen(path, resolve))
      try {
        const line = [`pr-manager-helper,id=p,path=${path}`]
        const expected = await theirs(line)
        const theirHello = Buffer.concat(heard.splice(0))
        const objects = noObjects()
        expect(await answer(line, objects)).toBe(expected)
        await expect.poll(() => Buffer.concat(heard)).toEqual(theirHello)
        expect(objects.kinds.has('p')).toBe(expected === '')
      } finally {
        await new Promise((resolve) => server.close(resolve))
      }
    }
  })
})

/** Keys of the user's key ring, which go away by themselves; -1 where the kernel lets nobody have any. */
const script = `
import ctypes, sys
libc = ctypes.CDLL(None)
libc.syscall.restype = ctypes.c_long
add, control = (217, 219) if sys.argv[1] == 'arm64' else (248, 250)
for number, payload in enumerate([b'horse', b'aG9yc2U=', bytes(range(32)), bytes(range(128, 160)), b'x' * 32767]):
    key = libc.syscall(add, b'user', b'moraine-test-%d' % number, payload, ctypes.c_long(len(payload)), ctypes.c_long(-4))
    if key > 0:
        libc.syscall(control, 15, ctypes.c_long(key), ctypes.c_long(120))
    print(key)
ring = libc.syscall(add, b'keyring', b'moraine-test', None, ctypes.c_long(0), ctypes.c_long(-4))
if ring > 0:
    libc.syscall(control, 15, ctypes.c_long(ring), ctypes.c_long(120))
print(ring)
`

describeWith(['qemu-img', 'python3'], 'secrets in the kernel', () => {
  const fixtures = new Fixtures()
  let keys: number[] = []
  beforeAll(async () => {
    keys = (await runOk('python3', ['-c', script, process.arch])).split('\n').slice(0, -1).map(Number)
    await fixtures.qemuImg('create -q -f raw a.raw 1M')
    writeFileSync(fixtures.path('password'), 'horse')
    await fixtures.qemuImg(
      'create -q --object secret,id=s,file=password -f luks -o key-secret=s,iter-time=10 k.luks 1M',
    )
  })

  it('are read, decoded and decrypted as by qemu-img, and what is wrong is told as there', async ({ skip }) => {
    const [horse, coded, key, bytes, long, ring] = keys
    if (keys.some((number) => number < 0)) return skip('the kernel gives no keys here')
    const id = 'secret_keyring,id=s'
    const iv = `iv=${Buffer.alloc(16).toString('base64')}`
    for (const line of [
      `${id},serial=${horse}`,
      `${id},serial=0x${horse?.toString(16)}`,
      `${id},serial=${coded},format=base64`,
      `${id},serial=${long}`,
      `${id},serial=${ring}`,
      `${id},serial=-2147483648`,
      `${id},serial=1`,
      `${id},serial=${horse},keyid=m`,
      `${id},serial=${horse},data=x`,
      `${id},serial=${horse} --object secret,id=s,data=x`,
      `secret_keyring,id=m,serial=${key} --object ${id},serial=${bytes},keyid=m`,
      `secret_keyring,id=m,serial=${key} --object ${id},serial=${bytes},keyid=m,${iv}`,
      `secret_keyring,id=m,serial=${key} --object ${id},serial=${horse},keyid=m,${iv}`,
      `secret_keyring,id=m,serial=${horse} --object ${id},serial=${bytes},keyid=m,${iv}`,
    ]) {
      const definitions = line.split(' --object ')
      const args = ['info', ...definitions.flatMap((definition) => ['--object', definition]), 'a.raw']
      const { stderr } = await run('qemu-img', args, { cwd: fixtures.folder })
      expect([line, await answer(definitions)]).toEqual([line, stderr])
    }
    expect(readKey(long ?? 0)).toEqual(new Uint8Array(32_767).fill(0x78))
  })

  it('open images', async ({ skip }) => {
    const [horse, coded, , bytes] = keys
    if (keys.some((number) => number < 0)) return skip('the kernel gives no keys here')
    const line = 'convert -O raw --image-opts driver=luks,key-secret=s,file.filename=k.luks out.raw'.split(' ')
    for (const [secret, code] of [
      [`serial=${horse}`, 0],
      [`serial=${coded},format=base64`, 0],
      [`serial=${coded}`, 1],
      [`serial=${bytes}`, 1],
    ] as const) {
      const args = [...line, '--object', `secret_keyring,id=s,${secret}`]
      const real = await run('qemu-img', args, { cwd: fixtures.folder })
      const ours = await run(ourQemuImg, args, { cwd: fixtures.folder })
      expect(real.code).toBe(code)
      expect(ours).toMatchObject({ code, stderr: real.stderr })
    }
  })
})
