/** Argon2: from a library where the runtime has none, as in the standalone executable; what cryptsetup locked with it opens. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeCrypto } from '@moraine/engine/node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { argon2ByLibrary } from '../src/crypto-library.ts'
import { moraine, standalone, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-argon2-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('the library', () => {
  it.each([
    ['argon2id', 4, 4096, 1, 32],
    ['argon2id', 4, 4096, 4, 64],
    ['argon2i', 5, 2048, 2, 64],
    ['argon2i', 4, 32, 4, 16],
  ] as const)(
    "agrees with Node's: %s, %i passes, %i KiB, %i lanes, %i bytes",
    async (kind, time, memory, lanes, length) => {
      for (const password of [Buffer.from('horse'), Buffer.from([0]), randomBytes(100)]) {
        const request = { kind, password, salt: randomBytes(32), time, memory, lanes, length }
        const ours = Buffer.from(await argon2ByLibrary(request))
        expect(ours.equals((await nodeCrypto.argon2?.(request)) ?? Buffer.alloc(0))).toBe(true)
      }
    },
  )
})

it('an empty password, which the library does not take, is refused as what it is', async () => {
  const request = { kind: 'argon2id', salt: randomBytes(32), time: 4, memory: 64, lanes: 1, length: 32 } as const
  await expect(argon2ByLibrary({ ...request, password: new Uint8Array() })).rejects.toMatchObject({
    kind: 'unsupported',
  })
})

describeWith(['cryptsetup'], 'what cryptsetup locked', () => {
  const content = Buffer.alloc(18 << 20, randomBytes(4099))
  const images = [
    ['argon2id', '--pbkdf=argon2id --pbkdf-memory=65536 --pbkdf-parallel=4 --pbkdf-force-iterations=4'],
    ['argon2i', '--pbkdf=argon2i --pbkdf-memory=4096 --pbkdf-force-iterations=4 --hash=sha512'],
  ] as const
  beforeAll(async () => {
    writeFileSync(join(folder, 'password'), 'horse')
    for (const [name, options] of images) {
      const path = join(folder, `${name}.img`)
      writeFileSync(path, Buffer.concat([content, Buffer.alloc(16 << 20)]))
      const encrypt =
        '--encrypt --type=luks2 --reduce-device-size=16M --force-offline-reencrypt --batch-mode --key-file=password'
      const args = ['reencrypt', ...words(`${encrypt} ${options}`), path]
      const { code, stderr } = await run(tool('cryptsetup').path ?? 'cryptsetup', args, { cwd: folder })
      if (code !== 0) throw new Error(stderr)
    }
  }, 60_000)

  const programs = [
    ['the command', moraine],
    ...(existsSync(standalone.moraine) ? ([['the standalone executable', standalone.moraine]] as const) : []),
  ] as const
  for (const [title, program] of programs) {
    it.each(images)(`${title} opens %s, and refuses another password`, { timeout: 60_000 }, async (name) => {
      const image = `--image-opts driver=luks2,key-secret=s,file.filename=${name}.img`
      const call = (line: string) => run(program, words(line), { cwd: folder })
      const copied = await call(`convert --object secret,id=s,file=password ${image} -O raw out.raw`)
      expect(copied).toMatchObject({ code: 0 })
      expect(readFileSync(join(folder, 'out.raw')).subarray(0, content.length).equals(content)).toBe(true)
      const refused = await call(`convert --object secret,id=s,data=wrong ${image} -O raw wrong.raw`)
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('Invalid password') })
    })
  }

  if (!existsSync(standalone.moraine))
    it.skip('the standalone executable [skipped: npm run build:binary has not run]', () => {})
})
