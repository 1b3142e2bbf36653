/** Opening files, their errors, new targets, and the gate. */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileGate, localPath, newFile, openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { refused } from '../source/conformance.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, tool } from '../support/process.ts'

const folder = temporaryFolder()

function file(content: string, name = folder.fresh()): string {
  fs.writeFileSync(name, content)
  return name
}

describe('openFile', () => {
  it('says what is wrong in the words of the system', async () => {
    const missing = folder.fresh()
    const error = await refused(openFile(missing), 'missing')
    expect(error.reason).toBe(`Could not open '${missing}': No such file or directory`)
    expect(error.code).toBe('ENOENT')
    const above = folder.fresh()
    fs.mkdirSync(above)
    await refused(openFile(above), 'invalid')
    await refused(openFile(above, { mode: 'write' }), 'invalid')
    await refused(openFile(file('x'), { mode: 'write', create: true, exclusive: true }), 'denied')
  })

  it('does not hang at a pipe', async () => {
    const pipe = folder.fresh()
    execFileSync(tool('mkfifo').path ?? '', [pipe])
    expect((await refused(openFile(pipe), 'invalid')).reason).toContain('to be a regular file')
  })

  it('refuses to write what was opened for reading', async () => {
    const store = await openFile(file('abc'))
    await refused(store.write(0, new Uint8Array(1)), 'denied')
    await refused(store.zero(0, 1, 'unmap'), 'denied')
    await refused(store.discard(0, 1), 'denied')
    await refused(store.resize(9), 'denied')
    await refused(Promise.resolve(store.copyFrom?.(store, 0, 0, 1)), 'denied')
    await store.flush()
    await store.close()
  })

  it('empties an existing file only when asked', async () => {
    const name = file('content')
    const keep = await openFile(name, { mode: 'write' })
    expect(keep.size).toBe(7)
    await keep.close()
    const empty = await openFile(name, { mode: 'write', create: true })
    expect(empty.size).toBe(0)
    await empty.close()
    expect(fs.statSync(name).size).toBe(0)
  })

  it('tells a file that became shorter under it', async () => {
    const name = file('0123456789')
    const store = await openFile(name)
    fs.truncateSync(name, 4)
    const error = await refused(store.read(2, new Uint8Array(6)), 'io')
    expect(error).toMatchObject({ path: name, offset: 4, code: 'EIO', reason: 'Input/output error' })
    await store.close()
  })

  it('closes once, after what is under way, and does nothing afterwards', async () => {
    const name = folder.fresh()
    const store = await openFile(name, { mode: 'write', create: true })
    const writes = Array.from({ length: 20 }, (_, i) => store.write(i * 65536, new Uint8Array(65536).fill(i)))
    const closing = store.close()
    await Promise.all(writes)
    await closing
    await store.close()
    expect(fs.statSync(name).size).toBe(20 * 65536)
    await refused(store.read(0, new Uint8Array(1)), 'io')
    await refused(store.write(0, new Uint8Array(1)), 'io')
    await refused(store.flush(), 'io')
  })

  it('closes after every step of what is under way', async () => {
    const store = await openFile(folder.fresh(), { mode: 'write', create: true, native: false })
    const zeroing = store.zero(0, 6 * 1024 * 1024 + 5, 'allocate')
    let done = false
    const closing = store.close().then(() => expect(done).toBe(true))
    await zeroing
    done = true
    await closing
    expect(fs.statSync(store.name).size).toBe(6 * 1024 * 1024 + 5)
  })
})

describe('writes in the calling thread', () => {
  it('are made when the call returns, and leave the event loop its turns', async () => {
    const name = folder.fresh()
    const store = await openFile(name, { mode: 'write', create: true, writes: 'here' })
    await new Promise((resolve) => setImmediate(resolve))
    const first = store.write(0, new Uint8Array(4096).fill(7))
    expect(fs.readFileSync(name)[4095]).toBe(7)
    expect(store.size).toBe(4096)
    await first
    let turns = 0
    const count = (): void => {
      turns++
      counting = setImmediate(count)
    }
    let counting = setImmediate(count)
    const chunk = new Uint8Array(1024 * 1024).fill(1)
    const started = performance.now()
    for (let i = 0; performance.now() - started < 200; i = (i + 1) % 8) await store.write(i * chunk.length, chunk)
    clearImmediate(counting)
    expect(turns).toBeGreaterThan(5)
    // Those that wait for a turn are made before the file is closed.
    const from = performance.now()
    let last = store.write(0, chunk.fill(2))
    while (performance.now() - from < 10) last = store.write(0, chunk)
    const waiting = store.write(0, chunk.fill(3))
    expect(fs.readFileSync(name)[0]).not.toBe(3)
    await store.close()
    await Promise.all([last, waiting])
    expect(fs.readFileSync(name)[0]).toBe(3)
    await refused(store.write(0, chunk), 'io')
  })

  it('heed a signal that has fired, and the mode', async () => {
    const name = file('abc')
    const store = await openFile(name, { mode: 'write', writes: 'here' })
    await refused(store.write(0, new Uint8Array(1), AbortSignal.abort()), 'cancelled')
    await store.close()
    const reading = await openFile(name, { writes: 'here' })
    await refused(reading.write(0, new Uint8Array(1)), 'denied')
    await reading.close()
    expect(fs.readFileSync(name, 'utf8')).toBe('abc')
  })
})

describe('reads in the calling thread', () => {
  it('are made when the call returns, and leave the event loop its turns', async () => {
    const name = file('abcdef')
    const opened = openFile(name, { reads: 'here' })
    const store = await opened
    const into = new Uint8Array(3)
    const reading = store.read(2, into)
    expect(Buffer.from(into).toString()).toBe('cde')
    await reading
    let turned = false
    setImmediate(() => {
      turned = true
    })
    const started = performance.now()
    while (!turned && performance.now() - started < 5000) await store.read(0, into)
    expect(turned).toBe(true)
    expect(await store.allocatedSize?.()).toBe(fs.statSync(name).blocks * 512)
    await store.close()
    await refused(store.read(0, into), 'io')
  })

  it('say what is wrong as the others do', async () => {
    await refused(openFile(folder.fresh(), { reads: 'here' }), 'missing')
    const name = file('abcdef')
    const store = await openFile(name, { reads: 'here' })
    fs.truncateSync(name, 2)
    await refused(store.read(0, new Uint8Array(6)), 'io')
    await store.close()
  })
})

describe('a full disk', () => {
  // /dev/full is no file; a file size limit is a full disk that needs no root.
  it.each(['aside', 'here'])(
    'gives one io error with path, offset and code, and the size stays true (%s)',
    async (writes) => {
      const name = folder.fresh()
      const script = `const { openFile } = await import('@moraine/engine/node')
      const store = await openFile(process.argv[1], { mode: 'write', create: true, writes: '${writes}' })
      process.on('SIGXFSZ', () => {})
      const said = []
      const note = (error) => said.push([error.kind, error.code, error.reason, error.offset, error.path === process.argv[1]])
      await store.write(0, new Uint8Array(512 * 1024))
      await store.write(512 * 1024, new Uint8Array(1024 * 1024)).catch(note)
      said.push(store.size)
      await store.resize(8 * 1024 * 1024).catch(note)
      await store.zero(2 * 1024 * 1024, 4096, 'unmap').catch(note)
      said.push(store.size)
      await store.resize(4 * 1024 * 1024, 'full').catch(note)
      said.push(store.size)
      // Without system calls there is no copy to fail.
      const copied = await store.copyFrom(store, 0, 1024 * 1024, 4096).catch(note)
      if (copied === 0 && process.env.MORAINE_NATIVE === 'off') note({ kind: 'io', code: 'EFBIG', reason: 'File too large', offset: 1024 * 1024, path: store.name })
      await store.close()
      console.log(JSON.stringify(said))`
      // ulimit counts in KiB.
      const command = `ulimit -f 1024; exec "$0" --conditions=source --input-type=module -e "$1" "$2"`
      const output = execFileSync('bash', ['-c', command, process.execPath, script, name], {
        encoding: 'utf8',
        cwd: import.meta.dirname,
      })
      const MiB = 1024 * 1024
      expect(JSON.parse(output)).toEqual([
        ['io', 'EFBIG', 'File too large', MiB, true],
        MiB,
        ['io', 'EFBIG', 'File too large', 8 * MiB, true],
        ['io', 'EFBIG', 'File too large', 2 * MiB + 4096, true],
        MiB,
        ['io', 'EFBIG', 'File too large', MiB, true],
        MiB,
        ['io', 'EFBIG', 'File too large', MiB, true],
      ])
    },
  )

  describeWith(['mount', 'umount'], 'of a small tmpfs', () => {
    const root = process.getuid?.() === 0
    if (root)
      it('gives ENOSPC for writes, zeros, reservations and copies', async () => {
        const point = folder.fresh()
        fs.mkdirSync(point)
        execFileSync(tool('mount').path ?? '', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', point])
        try {
          const store = await openFile(path.join(point, 'disk'), { mode: 'write', create: true })
          const source = await openFile(path.join(point, 'source'), { mode: 'write', create: true })
          await source.write(0, new Uint8Array(300 * 1024).fill(1))
          const expected = { kind: 'io', code: 'ENOSPC', reason: 'No space left on device', path: store.name }
          expect(await refused(store.resize(4 * 1024 * 1024, 'falloc'), 'io')).toMatchObject(expected)
          expect(await refused(store.resize(4 * 1024 * 1024, 'full'), 'io')).toMatchObject(expected)
          expect(store.size).toBe(0)
          const write = await refused(store.write(0, new Uint8Array(2 * 1024 * 1024).fill(1)), 'io')
          expect(write).toMatchObject(expected)
          expect(write.offset).toBe(store.size)
          expect(await refused(store.zero(store.size, 1024 * 1024, 'allocate'), 'io')).toMatchObject(expected)
          const copy = store.copyFrom?.(source, 0, store.size, 200 * 1024)
          // copy_file_range may be refused for tmpfs altogether; then it says 0.
          await Promise.resolve(copy).then(
            (copied) => expect(copied).toBe(0),
            (error) => expect(error).toMatchObject(expected),
          )
          expect(fs.statSync(store.name).size).toBe(store.size)
          await store.close()
          await source.close()
        } finally {
          execFileSync(tool('umount').path ?? '', [point])
        }
      })
    if (!root) it.skip('[skipped: not root]', () => {})
  })
})

describe('newFile', () => {
  it('shows the name only when the file is whole', async () => {
    const name = folder.fresh('.qcow2')
    const target = await newFile(name)
    expect(target.inPlace).toBe(false)
    expect(target.store.name).toBe(name)
    expect(path.dirname(target.writtenPath)).toBe(path.dirname(name))
    await target.store.write(0, new Uint8Array([1, 2, 3]))
    expect(fs.existsSync(name)).toBe(false)
    await target.store.close()
    await target.publish()
    expect([...fs.readFileSync(name)]).toEqual([1, 2, 3])
    expect(fs.statSync(name).mode & 0o777).toBe(0o644 & ~process.umask())
    await target.abandon()
    target.abandonNow()
    expect(fs.existsSync(name)).toBe(true)
    expect(fs.readdirSync(path.dirname(name)).filter((entry) => entry.includes('.part'))).toEqual([])
  })

  it('leaves nothing when it is given up', async () => {
    for (const way of ['abandon', 'abandonNow'] as const) {
      const name = folder.fresh('.qcow2')
      const target = await newFile(name)
      await target.store.write(0, new Uint8Array(10))
      await target[way]()
      await target.store.close()
      expect(fs.existsSync(name)).toBe(false)
      expect(fs.existsSync(target.writtenPath)).toBe(false)
      await target.publish()
      expect(fs.existsSync(name)).toBe(false)
    }
  })

  it('overwrites an existing file in place, its links and mode kept', async () => {
    const name = file('old content')
    fs.chmodSync(name, 0o600)
    const link = folder.fresh()
    fs.linkSync(name, link)
    const target = await newFile(name)
    expect(target.inPlace).toBe(true)
    await target.store.write(0, new TextEncoder().encode('new'))
    await target.store.close()
    await target.publish()
    await target.abandon()
    expect(fs.readFileSync(link, 'utf8')).toBe('new')
    expect(fs.statSync(name).mode & 0o777).toBe(0o600)
  })

  it('follows a symbolic link to nowhere', async () => {
    const name = folder.fresh()
    const link = folder.fresh()
    fs.symlinkSync(path.basename(name), link)
    const target = await newFile(link)
    await target.store.close()
    await target.publish()
    expect(fs.lstatSync(link).isSymbolicLink()).toBe(true)
    expect(fs.statSync(name).isFile()).toBe(true)
  })

  it('takes the longest of names', async () => {
    const name = path.join(path.dirname(folder.fresh()), `${'ü'.repeat(125)}.img`)
    const target = await newFile(name)
    await target.store.close()
    await target.publish()
    expect(fs.existsSync(name)).toBe(true)
  })

  it('is refused where the folder is missing', async () => {
    const error = await refused(newFile(path.join(folder.fresh(), 'x.raw')), 'missing')
    expect(error.reason).toMatch(/^Could not create '.*x\.raw': No such file or directory$/)
  })
})

describe('fileGate', () => {
  const gate = fileGate()
  it.each([
    ['/a/b/top.qcow2', 'base.qcow2', '/a/b/base.qcow2'],
    ['/a/b/top.qcow2', '../base.qcow2', '/a/b/../base.qcow2'],
    ['/a/b/top.qcow2', '/c/base.qcow2', '/c/base.qcow2'],
    ['top.qcow2', 'base.qcow2', 'base.qcow2'],
    ['d/top.qcow2', './x:y', 'd/./x:y'],
    ['file:/a/top.qcow2', 'base.qcow2', '/a/base.qcow2'],
    ['file:top.qcow2', 'base.qcow2', 'base.qcow2'],
    ['/a/top.qcow2', 'file:base.qcow2', 'file:base.qcow2'],
    ['/a/top.qcow2', 'nbd://h/x', 'nbd://h/x'],
    ['/a/top.qcow2', 'json:{"driver":"raw"}', 'json:{"driver":"raw"}'],
  ])('from %s, %s is %s', (from, name, expected) => {
    expect(gate.resolve({ from, name })).toBe(expected)
  })

  it('opens what is named, relative to the image', async () => {
    const base = file('base')
    const from = path.join(path.dirname(base), 'top.qcow2')
    for (const name of [path.basename(base), `file:${base}`, base]) {
      const source = await gate.open({ from, name, role: 'backing', mode: 'read' })
      expect(source.size).toBe(4)
      await source.close()
    }
    await refused(gate.open({ from, name: 'nbd://h/x', role: 'backing', mode: 'read' }), 'unsupported')
    await refused(gate.open({ from, name: 'absent', role: 'backing', mode: 'read' }), 'missing')
  })

  it('knows paths from protocols', async () => {
    expect(localPath('file:a:b')).toBe('./a:b')
    expect(localPath('./a:b')).toBe('./a:b')
    expect(localPath('/x/a:b')).toBe('/x/a:b')
    const error = await refused(
      Promise.resolve().then(() => localPath('a:b')),
      'unsupported',
    )
    expect(error.reason).toBe("Unknown protocol 'a'")
  })
})
