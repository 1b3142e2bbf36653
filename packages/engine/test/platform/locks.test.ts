/** QEMU's image locks against QEMU itself, in both directions. */
import { type ChildProcess, spawn } from 'node:child_process'
import { type ByteStore, isMoraineError } from '@moraine/engine'
import { imageLocks, lockImage, openFile, unlockImage } from '@moraine/engine/node'
import { afterEach, describe, expect, it } from 'vitest'
import { refused } from '../source/conformance.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, run, tool } from '../support/process.ts'
import { qemuImg, tryQemuImg } from '../support/qemu.ts'

const folder = temporaryFolder()

/** One run of the tests goes without system calls on purpose; the portable way has no locks. */
const reason =
  process.platform !== 'linux' ? 'not Linux' : process.env.MORAINE_NATIVE === 'off' ? 'MORAINE_NATIVE=off' : ''

if (reason !== '') describe.skip(`image locks [skipped: ${reason}]`, () => it('is not tried', () => {}))
else
  describeWith(['qemu-img', 'qemu-io'], 'image locks', () => {
    const running: ChildProcess[] = []
    const open: ByteStore[] = []
    afterEach(async () => {
      for (const store of open.splice(0)) await store.close()
      for (const child of running.splice(0)) child.kill('SIGKILL')
    })

    async function image(format = 'qcow2'): Promise<string> {
      const path = folder.fresh(`.${format}`)
      await qemuImg('create', '-q', '-f', format, path, '8M')
      return path
    }

    /** qemu-io holding the image until it is told to end. */
    async function held(path: string, format: string, ...more: string[]): Promise<() => Promise<void>> {
      const child = spawn(tool('qemu-io').path ?? '', [...more, '-f', format, path], {
        stdio: ['pipe', 'pipe', 'pipe'],
      })
      running.push(child)
      await new Promise<void>((resolve, reject) => {
        child.stdout.once('data', () => resolve())
        child.stderr.once('data', (text) => reject(new Error(String(text))))
      })
      return () =>
        new Promise((resolve) => {
          child.once('exit', () => resolve())
          child.stdin.end('quit\n')
        })
    }

    async function hold(path: string, ...rest: Parameters<typeof openFile> extends [string, ...infer R] ? R : never) {
      const store = await openFile(path, ...rest)
      open.push(store)
      return store
    }

    /** What qemu-img itself says about the image, in its first line. */
    async function qemuSays(...args: string[]): Promise<string> {
      const result = await tryQemuImg(args)
      return result.code === 0 ? 'fine' : (result.stderr.split('\n')[0]?.replace(/^.*': /, '') ?? '')
    }

    it('refuses an image that qemu-io writes, in the words of qemu-img', async () => {
      const path = await image()
      const end = await held(path, 'qcow2')
      const read = await refused(openFile(path, { lock: 'qemu' }), 'locked')
      const write = await refused(openFile(path, { lock: 'qemu', mode: 'write' }), 'locked')
      expect(read.reason).toBe(await qemuSays('check', '-f', 'qcow2', path))
      expect(read.reason).toBe('Failed to get shared "write" lock')
      expect(write.reason).toBe(await qemuSays('resize', '-f', 'qcow2', path, '16M'))
      expect(write.reason).toBe('Failed to get "write" lock')
      expect(read.hint?.split('\n')[0]).toBe(`Is another process using the image [${path}]?`)
      expect(read.path).toBe(path)
      await end()
      await hold(path, { lock: 'qemu', mode: 'write' })
    })

    it('names the process that holds it', async () => {
      const path = await image()
      await held(path, 'qcow2')
      const { hint } = await refused(openFile(path, { lock: 'qemu' }), 'locked')
      expect(hint?.split('\n')[1]).toBe(`It is held by qemu-io (process ${running[0]?.pid}).`)
    })

    it('opens it without a lock, as -U does', async () => {
      const path = await image()
      await held(path, 'qcow2')
      const store = await hold(path, {})
      await store.read(0, new Uint8Array(4))
    })

    it('empties no image that somebody holds', async () => {
      const path = await image()
      await held(path, 'qcow2')
      await refused(openFile(path, { lock: 'qemu', mode: 'write', create: true }), 'locked')
      expect((await openFile(path).then((store) => [store.size, store.close()] as const))[0]).toBeGreaterThan(0)
    })

    it('reads beside other readers, and keeps writers out', async () => {
      const path = await image()
      await held(path, 'qcow2', '-r')
      await hold(path, { lock: 'qemu' })
      await hold(path, { lock: 'qemu' })
      await refused(openFile(path, { lock: 'qemu', mode: 'write' }), 'locked')
      expect(await qemuSays('check', '-f', 'qcow2', path)).toBe('fine')
      expect(await qemuSays('resize', '-f', 'qcow2', path, '16M')).toBe('Failed to get "write" lock')
    })

    it('keeps QEMU out while it writes, and lets it in afterwards', async () => {
      const path = await image()
      const store = await hold(path, { lock: 'qemu', mode: 'write' })
      expect(await qemuSays('info', '-f', 'qcow2', path)).toBe('Failed to get shared "write" lock')
      expect(await qemuSays('info', '-U', '-f', 'qcow2', path)).toBe('fine')
      expect(await qemuSays('resize', '-f', 'qcow2', path, '16M')).toBe('Failed to get "write" lock')
      unlockImage(store)
      expect(await qemuSays('info', '-f', 'qcow2', path)).toBe('fine')
      expect(lockImage(store, imageLocks.write)).toBe(true)
      expect(await qemuSays('info', '-f', 'qcow2', path)).toBe('Failed to get shared "write" lock')
      open.length = 0
      await store.close()
      expect(await qemuSays('info', '-f', 'qcow2', path)).toBe('fine')
    })

    it('locks two descriptors of one process against each other', async () => {
      const path = await image()
      await hold(path, { lock: 'qemu', mode: 'write' })
      await refused(openFile(path, { lock: 'qemu' }), 'locked')
    })

    it('keeps the old lock bytes out of the way when it takes another lock', async () => {
      const path = await image()
      const store = await hold(path, { mode: 'write', lock: 'qemu' })
      lockImage(store, imageLocks.read)
      expect(await qemuSays('check', '-f', 'qcow2', path)).toBe('fine')
    })

    it('only looks, for info', async () => {
      const path = await image()
      const store = await hold(path, {})
      expect(lockImage(store, imageLocks.info)).toBe(true)
      await held(path, 'qcow2', '-r')
      expect(lockImage(store, imageLocks.info)).toBe(true)
      unlockImage(store)
      for (const child of running.splice(0)) {
        child.stdin?.end()
        await new Promise((resolve) => child.once('exit', resolve))
      }
      await held(path, 'qcow2')
      let error: unknown
      try {
        lockImage(store, imageLocks.info)
      } catch (caught) {
        error = caught
      }
      expect(isMoraineError(error, 'locked') && error.reason).toBe(await qemuSays('info', '-f', 'qcow2', path))
    })

    it('lets raw images be shared as QEMU shares them', async () => {
      const path = await image('raw')
      await held(path, 'raw')
      const store = await hold(path, { lock: imageLocks.rawRead })
      expect(await qemuSays('compare', '-f', 'raw', '-F', 'raw', path, path)).toBe('fine')
      expect(store.size).toBe(8 * 1024 * 1024)
      await hold(path, { mode: 'write', lock: imageLocks.rawWrite })
      await refused(openFile(path, { lock: imageLocks.read }), 'locked')
    })

    describeWith(['strace'], 'seen by strace', () => {
      it.each([
        ['read', imageLocks.read, 'qemu-img', ['check', '-f', 'qcow2']],
        ['write', imageLocks.write, 'qemu-img', ['check', '-f', 'qcow2', '-r', 'all']],
        ['rawRead', imageLocks.rawRead, 'qemu-io', ['-r', '-c', 'read 0 1k', '-f', 'raw']],
        ['rawWrite', imageLocks.rawWrite, 'qemu-io', ['-c', 'write 0 1k', '-f', 'raw']],
      ] as const)('%s takes and tests the bytes that QEMU does', async (name, _lock, program, args) => {
        const path = await image(name.startsWith('raw') ? 'raw' : 'qcow2')
        const theirs = await lockCalls([tool(program).path ?? '', ...args, path], path)
        const script = `const { openFile, imageLocks } = await import('@moraine/engine/node')
        const store = await openFile(process.argv[1], { mode: ${JSON.stringify(/rite/.test(name) ? 'write' : 'read')}, lock: imageLocks.${name} })
        await store.close()`
        const ours = await lockCalls(
          [process.execPath, '--conditions=source', '--input-type=module', '-e', script, path],
          path,
        )
        expect(ours.length).toBeGreaterThan(0)
        expect(ours).toEqual(theirs)
      })
    })

    /** The bytes that a command locks and then tests on `path`, in order. */
    async function lockCalls(command: string[], path: string): Promise<string[]> {
      const trace = folder.fresh('.strace')
      const result = await run(
        tool('strace').path ?? '',
        ['-f', '-y', '-e', 'trace=fcntl', '-e', 'signal=none', '-o', trace, ...command],
        { cwd: import.meta.dirname },
      )
      expect(result.code, result.stderr).toBe(0)
      const { readFileSync } = await import('node:fs')
      const calls: string[] = []
      for (const line of readFileSync(trace, 'utf8').split('\n')) {
        const match = /F_OFD_(SETLK|GETLK), \{l_type=(F_\w+), .*l_start=(\d+), l_len=1/.exec(line)
        if (match === null || !line.includes(path)) continue
        if (match[1] === 'SETLK' && match[2] === 'F_RDLCK') calls.push(`set ${match[3]}`)
        if (match[1] === 'GETLK' && Number(match[3]) >= 100) calls.push(`test ${match[3]}`)
      }
      return calls
    }
  })
