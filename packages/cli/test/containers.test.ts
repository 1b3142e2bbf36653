/** Containers on the command line: the disk in an appliance or an archive is opened where it lies, and nothing of it under QEMU's name. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createPlainServer } from 'node:net'
import { Readable } from 'node:stream'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { moraine, ourQemuImg } from './support/differential.ts'

const folder = temporaryFolder()
const size = 3 << 20

async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  return `${code}\n${stdout}${stderr}`
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  expect(code, stderr).toBe(0)
  return stdout
}

function descriptor(...disks: { href: string; more?: string }[]): string {
  const files = disks.map(({ href, more = '' }, index) => `<File ovf:id="file${index}" ovf:href="${href}" ${more}/>`)
  const listed = disks.map(
    (_, index) =>
      `<Disk ovf:diskId="vmdisk${index}" ovf:fileRef="file${index}" ovf:capacity="3" ovf:capacityAllocationUnits="byte * 2^20"/>`,
  )
  return `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References>${files.join('')}</References><DiskSection><Info/>${listed.join('')}</DiskSection></Envelope>`
}

function tar(archive: string, ...names: string[]): void {
  execFileSync('tar', ['-C', folder.file('.'), '-cf', folder.file(archive), ...names])
}

describeWith(['qemu-img', 'tar', 'gzip', 'zip'], 'containers', () => {
  beforeAll(async () => {
    const raw = folder.file('disk.raw')
    await qemuImg('create', '-q', '-f', 'raw', raw, String(size))
    await qemuIo(raw, 'raw', 'write -P 17 64k 1M', 'write -P 34 2M 4k')
    for (const name of ['a.vmdk', 'b.vmdk']) {
      await qemuImg('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, folder.file(name))
    }
    execFileSync('gzip', ['-k', folder.file('b.vmdk')])
    execFileSync('split', ['-a', '9', '-d', '-b', '9000', folder.file('a.vmdk'), folder.file('c.vmdk.')])
    const { size: stored } = statSync(folder.file('a.vmdk'))
    const chunks = Array.from(
      { length: Math.ceil(stored / 9000) },
      (_, index) => `c.vmdk.${String(index).padStart(9, '0')}`,
    )
    writeFileSync(folder.file('one.ovf'), descriptor({ href: 'a.vmdk', more: `ovf:size="${stored}"` }))
    writeFileSync(
      folder.file('more.ovf'),
      descriptor(
        { href: 'a.vmdk' },
        { href: 'b.vmdk.gz', more: 'ovf:compression="gzip"' },
        { href: 'c.vmdk', more: `ovf:size="${stored}" ovf:chunkSize="9000"` },
      ),
    )
    writeFileSync(folder.file('short.ovf'), descriptor({ href: 'a.vmdk', more: `ovf:size="${stored + 1}"` }))
    writeFileSync(folder.file('away.ovf'), descriptor({ href: '../../etc/passwd' }))
    tar('one.ova', 'one.ovf', 'a.vmdk')
    tar('more.ova', 'a.vmdk', 'b.vmdk.gz', 'more.ovf', ...chunks)
    tar('disk.tar', 'disk.raw')
    execFileSync('gzip', ['-k', folder.file('one.ova')])
    execFileSync('zip', ['-q', '-j', folder.file('box.zip'), folder.file('one.ova'), raw])
  })

  it.each([
    ['one.ova', 'a.vmdk'],
    ['one.ova#disk1', 'a.vmdk'],
    ['one.ova#vmdisk0', 'a.vmdk'],
    ['one.ova.gz', 'a.vmdk'],
    ['one.ovf', 'a.vmdk'],
    ['more.ova#a.vmdk', 'a.vmdk'],
    ['more.ova#disk2', 'b.vmdk.gz'],
    ['more.ova#disk3', 'c.vmdk'],
    ['more.ovf#disk3', 'c.vmdk'],
    ['disk.tar', 'disk.raw'],
    ['box.zip#one.ova', 'a.vmdk'],
    ['box.zip#one.ova#disk1', 'a.vmdk'],
  ])('%s: compare, convert', async (name, member) => {
    const file = folder.file(name)
    const outer = file.slice(0, file.includes('#') ? file.indexOf('#') : undefined)
    const info = JSON.parse(await ok('map', '--output=json', file)) as unknown[]
    expect(info.length).toBeGreaterThan(0)
    expect(await ok('compare', file, folder.file('disk.raw'))).toContain('Images are identical.')
    const target = folder.fresh('.qcow2')
    await ok('convert', '-O', 'qcow2', file, target)
    expect(await qemuImg('compare', folder.file('disk.raw'), target)).toContain('Images are identical.')
    if (/^(one\.ova#|more\.ova#a)/.test(name)) expect(await ok('info', file)).toContain(`image: ${outer}#${member}\n`)
  })

  it.each([
    [
      'more.ova',
      "the ova holds 3 disks, of which one must be named (field member)\nIt has 'a.vmdk' (disk1), 'b.vmdk.gz' (disk2), 'c.vmdk' (disk3). Name one as FILE#MEMBER.",
    ],
    ['one.ova#disk9', "the ova has no member 'disk9'"],
    ['one.ova#disk1#x', "has no member 'x'"],
    ['disk.raw#x', "it is no container and has no member 'x'"],
    ['short.ovf', "the file 'a.vmdk' is not as large as the descriptor says"],
    ['away.ovf', 'the descriptor names a file outside the package (field href is ../../etc/passwd'],
  ])('%s is refused', async (name, said) => {
    expect(await command('map', folder.file(name))).toContain(said)
  })

  it('does not write into them', async () => {
    expect(await command('resize', folder.file('one.ova#disk1'), '8M')).toContain(
      'it lies in a container (ova) and cannot be written in place',
    )
    expect(await command('resize', folder.file('disk.tar'), '8M')).toContain('it lies in a container (tar)')
  })

  it('opens no file of the host that an image in an appliance names', async () => {
    const [file, outside] = [folder.file('named.vmdk'), folder.file('outside.raw')]
    writeFileSync(outside, Buffer.alloc(size, 1))
    const text = `# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n\nRW ${size / 512} FLAT "${outside}" 0\n`
    writeFileSync(file, text)
    writeFileSync(folder.file('named.ovf'), descriptor({ href: 'named.vmdk' }))
    tar('named.ova', 'named.ovf', 'named.vmdk')
    for (const name of ['named.ova', 'named.ovf']) {
      expect(await command('convert', '-O', 'raw', folder.file(name), folder.fresh())).toMatch(
        /^1\n.*which the ov[af] does not hold/,
      )
    }
  })

  it('reads a disk in an appliance over HTTP by ranges', async () => {
    let sent = 0
    const server = createServer((request, response) => {
      const bytes = readFileSync(folder.file((request.url ?? '').slice(1)))
      const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '')
      const start = Number(range?.[1] ?? 0)
      const part = bytes.subarray(start, range?.[2] ? Number(range[2]) + 1 : bytes.length)
      if (request.method !== 'HEAD') sent += part.length
      response.writeHead(range === null ? 200 : 206, {
        'content-length': part.length,
        'accept-ranges': 'bytes',
        ...(range !== null && { 'content-range': `bytes ${start}-${start + part.length - 1}/${bytes.length}` }),
      })
      response.end(request.method === 'HEAD' ? undefined : part)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      // Much stands before the disk that is asked for, and is not fetched.
      writeFileSync(folder.file('ballast'), Buffer.alloc(20 << 20, 1))
      tar('far.ova', 'one.ovf', 'ballast', 'a.vmdk')
      for (const name of ['far.ova', 'far.ova#disk1', 'one.ovf']) {
        expect(await ok('compare', `${address}/${name}`, folder.file('disk.raw'))).toContain('Images are identical.')
        expect(JSON.parse(await ok('info', '--output=json', `${address}/${name}`))).toMatchObject({
          format: 'vmdk',
          'virtual-size': size,
        })
      }
      expect(sent).toBeLessThan(10 << 20)
      expect(await ok('ova', 'info', `${address}/far.ova`)).toContain('file: ballast')
    } finally {
      await new Promise((resolve) => server.close(resolve))
    }
  })

  it('is read from a server without ranges that ends each connection', async () => {
    // As Python's http.server does; a client that stops reading sees the end while bytes still wait.
    const server = createPlainServer((connection) => {
      connection.on('error', () => {})
      connection.once('data', (asked) => {
        const [method, path = ''] = asked.toString('latin1').split(' ')
        const bytes = readFileSync(folder.file(path.slice(1)))
        connection.write(`HTTP/1.0 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`)
        if (method === 'HEAD') connection.end()
        else Readable.from([bytes]).pipe(connection)
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      writeFileSync(folder.file('noise.raw'), randomBytes(300_000))
      truncateSync(folder.file('noise.raw'), 40 << 20)
      await ok('ova', 'create', '--disk', folder.file('noise.raw'), folder.file('noise.ova'))
      for (let round = 0; round < 5; round++) {
        await ok('convert', '-O', 'raw', `${address}/noise.ova#disk1`, folder.file('again.raw'))
        expect(readFileSync(folder.file('again.raw')).equals(readFileSync(folder.file('noise.raw')))).toBe(true)
      }
      expect((await run(moraine, ['info', `${address}/noise.ova#none`])).stderr).toContain("no member 'none'")
    } finally {
      await new Promise((resolve) => server.close(resolve))
    }
  })

  it('is inspected with what the descriptor says', async () => {
    const { stdout } = await run(moraine, ['inspect', '--output=json', folder.file('one.ova')])
    expect(JSON.parse(stdout)[0].findings[0]).toMatchObject({ format: 'ova', facts: { machines: [] } })
  })

  it('takes what is said to be raw as it stands, and everything under QEMU’s name', async () => {
    const { length } = readFileSync(folder.file('one.ova'))
    for (const [program, args] of [
      [moraine, ['-f', 'raw']],
      [ourQemuImg, []],
    ] as const) {
      const { stdout } = await run(program, ['info', '--output=json', ...args, folder.file('one.ova')])
      expect(JSON.parse(stdout)).toMatchObject({ format: 'raw', 'virtual-size': length })
    }
  })
})
