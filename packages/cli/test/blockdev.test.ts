/** `--image-opts`, `json:` names, protocols and filters, beside qemu-img; and what is read over HTTP. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { describeWith, run, runOk } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg } from './support/differential.ts'

/** What qemu-img takes, and what it refuses. */
const described = [
  'driver=qcow2,file.driver=file,file.filename=q.qcow2',
  'file.filename=q.qcow2',
  'driver=qcow2,file.filename=q.qcow2',
  'driver=file,filename=q.qcow2',
  'filename=q.qcow2',
  'driver=raw,offset=512,size=1024,file.filename=r.raw',
  'driver=raw,size=1000,file.filename=r.raw',
  'driver=raw,offset=2M,file.filename=r.raw',
  'driver=raw,offset=512,size=2M,file.filename=r.raw',
  'driver=qcow2,foo=1,file.filename=q.qcow2',
  'driver=qcow2,file.foo=1,file.filename=q.qcow2',
  'driver=nope,file.filename=q.qcow2',
  'q.qcow2',
  'driver=qcow2',
  'driver=null-co,size=1M',
  'driver=null-co',
  'driver=raw,file.driver=null-co,file.size=1M',
  'driver=qcow2,file.filename=o.qcow2,backing.file.filename=r.raw,backing.driver=raw',
  'driver=qcow2,file.filename=o.qcow2,backing=',
  'driver=copy-on-read,file.driver=qcow2,file.file.filename=q.qcow2',
  'driver=throttle,file.driver=qcow2,file.file.filename=q.qcow2',
  'driver=blkdebug,image.driver=qcow2,image.file.filename=q.qcow2',
  'driver=blkdebug,image.filename=q.qcow2',
  'driver=blkdebug,image.file.filename=q.qcow2',
  'driver=compress,file.driver=qcow2,file.file.filename=q.qcow2',
  'driver=compress,file.filename=q.qcow2',
  'driver=preallocate,file.driver=file,file.filename=q.qcow2',
  'driver=qcow2,file.filename=nope.qcow2',
  'driver=qcow2,file.driver=file',
  'read-only=on,driver=qcow2,file.filename=q.qcow2',
  'driver=qcow2,read-only=maybe,file.filename=q.qcow2',
  'driver=qcow2,file.locking=maybe,file.filename=q.qcow2',
  'driver=qcow2,cache.direct=on,file.filename=q.qcow2',
  'driver=qcow2,file=foo',
  'driver=qcow2,file.filename=q.qcow2,file.filename=r.raw',
  'a,,b=c',
  ',driver=raw',
  'driver=qcow2,lazy-refcounts=on,l2-cache-size=1M,file.filename=q.qcow2',
  'driver=qcow2,l2-cache-size=x,file.filename=q.qcow2',
  'driver=qcow2,overlap-check=bad,file.filename=q.qcow2',
  'id=x,driver=qcow2,file.filename=q.qcow2',
  'driver=qcow2,node-name=a,file.filename=q.qcow2',
  'driver=qcow2,file.driver=blkdebug,file.image.filename=q.qcow2,file.inject-error.0.event=read_aio,file.inject-error.0.errno=5',
  'driver=host_device,filename=q.qcow2',
  'driver=file,filename=/dev/null',
  'driver=qcow2,file.driver=qcow2,file.file.filename=q.qcow2',
  'driver=raw,file.driver=qcow2,file.file.filename=q.qcow2',
  'file.driver=qcow2,file.file.filename=q.qcow2',
  'driver=raw,file.file.filename=q.qcow2',
  'driver=raw,file.filename=file:q.qcow2',
  'driver=raw,file.filename=',
  'driver=,file.filename=q.qcow2',
  'driver=raw,detect-zeroes=foo,file.filename=q.qcow2',
  'driver=raw,discard=foo,file.filename=q.qcow2',
  'driver=raw,file.aio=foo,file.filename=q.qcow2',
]

const named = [
  'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}',
  'json:{"driver":"qcow2","file.filename":"q.qcow2"}',
  'json:{"file":{"driver":"file","filename":"q.qcow2"}}',
  'json:{"driver":"raw","size":512,"offset":"512","file":{"driver":"file","filename":"r.raw"}}',
  'json:{"driver":"raw","size":true,"file":{"driver":"file","filename":"r.raw"}}',
  'json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"o.qcow2"}}',
  'json:{"driver":"null-co","size":1048576}',
  'json:{"driver":"qcow2","foo":{"a":1},"file":{"driver":"file","filename":"o.qcow2"}}',
  "json:{'driver':'null-co'}",
  'json:{"driver":"qcow2","file":"q.qcow2"}',
  'json:{"driver":"file","filename":"q.qcow2"}',
  'json:{"filename":"q.qcow2"}',
  'json:{"driver":"qcow2","file":{"driver":"file","filename":["q"]}}',
  'json:null',
  'json:[]',
  'json:{',
  'json:{]',
  'json:nope',
  'json:{"a"}',
  'json:{"a":}',
  'json:{"a":1,}',
  'json:{"a":1,"a":2}',
  'json:{"driver":"null-co"} x',
  'json:{"a":tru}',
  'json:"',
  'json:',
  'json:{1:2}',
  'json:{"driver":"null-co","size":0x10}',
  'json:{"a":%d}',
  'null-co://',
  'null-aio://',
  'null-co:x',
  'blkdebug::q.qcow2',
  'blkdebug:cfg:q.qcow2',
  'blkdebug:x',
  'raw:q.qcow2',
  'file:q.qcow2',
  'foo:bar',
]

const overRaw = 'driver=qcow2,file.filename=o.qcow2,backing.driver=raw,backing.file.filename=r.raw'
const broken = 'driver=raw,file.driver=blkdebug,file.image.filename=r.raw,file.inject-error.0.sector=100'

describeWith(['qemu-img', 'qemu-io'], 'nodes beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw r.raw 1M')
    mkdirSync(fixtures.path('rules'))
    const rules = {
      load: '# a comment\n\n[inject-error]\nevent = "l2_load"\nerrno = "28"\n',
      state: '[set-state]\nevent = "l2_load"\nnew_state = "2"\n[inject-error "a"]\nstate = "2"\nevent = "read_aio"\n',
      odd: '[inject-error]\nevent = "l2_load"\nfoo = "1"\n',
      group: '[nope]\nevent = "l2_load"\n',
      nogroup: 'event = "l2_load"\n',
      eventless: '[inject-error]\nerrno = "5"\n',
      unknown: '[inject-error]\nevent = "foo"\n',
      unquoted: '[inject-error]\nevent = l2_load\n',
    }
    for (const [name, text] of Object.entries(rules)) writeFileSync(fixtures.path(`rules/${name}`), text)
    await fixtures.qemuIo('r.raw', 'write -q -P 7 0 100k')
    await fixtures.qemuImg('create -q -f qcow2 q.qcow2 1M')
    await fixtures.qemuIo('q.qcow2', 'write -q -P 8 64k 100k')
    await fixtures.qemuImg('create -q -f qcow2 -b q.qcow2 -F qcow2 o.qcow2')
    await fixtures.qemuImg('create -q -f qed q.qed 1M')
    await fixtures.qemuImg('create -q -f vmdk q.vmdk 1M')
    await fixtures.qemuImg(['create', '-q', '-f', 'qcow2'].join(' ').concat(' j.qcow2 1M'))
    await fixtures.qemuImg(
      `rebase -u -F qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}' j.qcow2`,
    )
  })

  for (const options of described) {
    fixtures.same(['info', '--image-opts', options])
    // QEMU does not ask a null device whether it is dirty; here raw says so over anything.
    if (!options.startsWith('driver=raw,file.driver=null')) {
      fixtures.same(['info', '--output=json', '--image-opts', options])
    }
  }
  for (const name of named) fixtures.same(['info', name])
  for (const verb of ['map', 'check', 'compare', 'measure', 'snapshot -l', 'resize']) {
    fixtures.same(`${verb} --image-opts driver=qcow2,file.filename=nope`)
  }
  fixtures.same('check --image-opts driver=qcow2,file.filename=q.qcow2')
  fixtures.same('snapshot -l --image-opts driver=qcow2,file.filename=q.qcow2')
  fixtures.same('measure -O raw --image-opts driver=qcow2,file.filename=q.qcow2')
  fixtures.same('measure -O raw --image-opts --size 1M')
  fixtures.same('compare --image-opts driver=qcow2,file.filename=q.qcow2 driver=raw,file.filename=r.raw')
  fixtures.same('compare --image-opts driver=qcow2,file.filename=q.qcow2 driver=raw,file.filename=q.qcow2')
  fixtures.same(`map --image-opts ${overRaw}`)
  fixtures.same(`map --output=json --image-opts ${overRaw}`)
  fixtures.same('map --output=json --image-opts driver=qcow2,file.filename=o.qcow2,backing=')
  fixtures.same('map --output=json --image-opts driver=null-co,size=1M,read-zeroes=on')
  fixtures.same('info --backing-chain j.qcow2')
  fixtures.same('map --output=json j.qcow2')
  fixtures.same('info -f raw --image-opts driver=raw,file.filename=r.raw')
  fixtures.same(['info', '-f', 'raw', 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}'])
  fixtures.same('info --object nope,id=s0 q.qcow2')
  fixtures.same('info --object throttle-group q.qcow2')
  fixtures.same('info --object id=a q.qcow2')
  fixtures.same('info --object throttle-group,id=1a q.qcow2')
  fixtures.same('info --object throttle-group,id=t,foo=1 q.qcow2')
  fixtures.same('info --object throttle-group,id=t,x-bps-total=1M q.qcow2')
  fixtures.same('info --object throttle-group,id=t --object throttle-group,id=t q.qcow2')
  for (const object of [
    'x-iops-total=1M',
    'foo=1,x-iops-total=-1',
    'x-iops-total=-1',
    'limits.iops-total=-1',
    'x-iops-total=1,x-iops-read=1',
    'limits.iops-total=1,x-iops-read=1',
    'x-bps-total=10,x-bps-total-max=5',
    'limits.bps-total=10,x-bps-total=20,limits.bps-total-max=15',
    'x-bps-total-max=5',
    'x-iops-size=5',
    'x-iops-size=5,x-bps-read=1',
    'x-iops-read=5,x-iops-size=4096',
    'x-bps-total=10,x-bps-total-max-length=5',
    'x-bps-total=10,x-bps-total-max=100,x-bps-total-max-length=0x5',
    'x-bps-total-max-length=0',
    'x-bps-total-max-length=99999999999',
    'limits.bps-total-max-length=99999999999',
    'x-iops-total=9999999999999999',
  ]) {
    fixtures.same(`info --object throttle-group,id=t,${object} q.qcow2`)
  }
  for (const object of [
    'main-loop,id=t',
    'main-loop,id=t,aio-max-batch=0x10,thread-pool-min=2,thread-pool-max=4',
    'main-loop,id=t,thread-pool-min=65',
    'main-loop,id=t,thread-pool-max=0',
    'main-loop,id=t,thread-pool-max=99999999999',
    'main-loop,id=t,aio-max-batch=-1',
    'main-loop,id=t,aio-max-batch=1k',
    'main-loop,id=t,poll-max-ns=1',
    'main-loop,id=t --object main-loop,id=u',
    'tls-cipher-suites,id=t',
    'tls-cipher-suites,id=t,priority=NORMAL,dir=/nope,endpoint=client,verify-peer=off',
    'tls-cipher-suites,id=t,priority=NORMAL,foo=1',
    'tls-cipher-suites,id=t,endpoint=foo',
    'tls-cipher-suites,id=t,verify-peer=maybe',
    'tls-cipher-suites,id=t,priority=x --object main-loop,id=t',
    'iothread',
    'iothread,id=t',
    'iothread,id=t,poll-max-ns=1',
    'iothread,id=t,foo=1',
    'can-bus,id=t',
    'authz-list-file,id=t',
  ]) {
    fixtures.same(`info --object ${object} q.qcow2`)
  }
  const throttled = 'driver=throttle,throttle-group=t,file.driver=qcow2,file.file.filename=q.qcow2'
  fixtures.same(`info --object throttle-group,id=t,x-bps-total=100000000 --image-opts ${throttled}`)
  fixtures.same(
    `compare --object throttle-group,id=t,x-bps-total=100000000 --image-opts ${throttled} file.filename=q.qcow2`,
  )

  // What is not complete does not stay under the target's name here.
  const left = { files: false }
  fixtures.sameOnCopies('o.qcow2 q.qcow2 r.raw', `convert --image-opts -O raw ${overRaw} x.raw`)
  fixtures.sameOnCopies('q.qcow2 j.qcow2', 'convert -O raw j.qcow2 x.raw')
  fixtures.sameOnCopies('r.raw', 'resize --image-opts driver=raw,file.filename=r.raw 2M')
  fixtures.sameOnCopies('r.raw', 'resize --image-opts driver=raw,size=1M,file.filename=r.raw 2M')
  fixtures.sameOnCopies('r.raw', `convert -O raw --image-opts ${broken},file.inject-error.0.event=none x.raw`, left)
  fixtures.sameOnCopies('r.raw', `convert -O raw --image-opts ${broken},file.inject-error.0.event=read_aio x.raw`, left)
  fixtures.sameOnCopies('r.raw', `convert -O raw --image-opts ${broken},file.inject-error.0.event=l2_load x.raw`)
  fixtures.sameOnCopies('r.raw', `convert -O raw --image-opts ${broken},file.inject-error.0.event=foo x.raw`)

  // Rules of blkdebug. Where a call failed, each program says in its own terms.
  const told = {
    files: false,
    normalize: (text: string) => text.replace(/error while (reading|writing).*?: /, ''),
  }
  const debug = 'driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=q.qcow2'
  const rule = 'file.inject-error.0'
  const state = 'file.set-state.0'
  for (const rules of [
    ...[
      'l2_load',
      'read_aio',
      'none',
      'l1_update',
      'l2_update',
      'cluster_alloc',
      'refblock_load',
      'vmstate_load',
      'write_compressed',
    ].map((event) => `${rule}.event=${event}`),
    `${rule}.event=read_aio,${rule}.once=on`,
    `${rule}.event=read_aio,${rule}.errno=28`,
    `${rule}.event=l2_load,${rule}.errno=2,${rule}.immediately=on`,
    `${rule}.event=l2_load,${rule}.iotype=write`,
    `${rule}.event=l2_load,${rule}.iotype=read`,
    `${rule}.event=none,${rule}.sector=1300`,
    `${rule}.event=read_aio,${rule}.state=2`,
    `${rule}.event=read_aio,${rule}.state=1`,
    `${rule}.event=read_aio,${rule}.state=2,${state}.event=l2_load,${state}.new_state=2`,
    `${rule}.event=read_aio,${rule}.state=2,${state}.event=l2_load,${state}.state=1,${state}.new_state=2`,
    `${rule}.event=read_aio,${rule}.state=2,${state}.event=l2_load,${state}.state=3,${state}.new_state=2`,
    `${rule}.event=read_aio,${rule}.state=2,${state}.event=none,${state}.new_state=2`,
    `${rule}.event=read_aio,${state}.event=nope,${state}.new_state=2`,
    `${rule}.event=read_aio,${state}.new_state=2`,
    `${state}.event=l2_load,${state}.new_state=x`,
    `${state}.event=l2_load,${state}.foo=x`,
    `${rule}.event=read_aio,${rule}.foo=x`,
    `${rule}.event=read_aio,${rule}.errno=x`,
    `${rule}.event=read_aio,${rule}.sector=x`,
    `${rule}.event=read_aio,${rule}.immediately=x`,
    `${rule}.event=read_aio,${rule}.iotype=x`,
    `${rule}.iotype=read`,
  ]) {
    fixtures.sameOnCopies('q.qcow2', `convert -O raw --image-opts ${debug},${rules} x.raw`, told)
  }
  for (const event of [
    'l2_load',
    'write_aio',
    'pwritev',
    'refblock_load',
    'l1_update',
    'cluster_alloc',
    'pwritev_zero',
  ]) {
    const line = `convert -n -O raw --target-image-opts r.raw ${debug},${rule}.event=${event}`
    fixtures.sameOnCopies('q.qcow2 r.raw', line, {
      ...told,
      normalize: (text) => told.normalize(text).replace(/^qemu-img: Failed to flush.*\n/gm, ''),
    })
  }
  // What fails at the beginning is told by its part; what fails first counts, not the closing that fails after it.
  for (const [format, file] of [
    ['qcow2', 'q.qcow2'],
    ['qed', 'q.qed'],
    ['vmdk', 'q.vmdk'],
  ]) {
    fixtures.same(
      `info --image-opts driver=${format},file.driver=blkdebug,file.image.filename=${file},${rule}.event=none`,
    )
  }
  fixtures.sameOnCopies('q.qcow2', `resize --image-opts ${debug},${rule}.event=reftable_load 2M`)
  fixtures.sameOnCopies(
    'o.qcow2 q.qcow2 r.raw',
    `rebase -u -b r.raw -F raw --image-opts ${debug.replace('q.qcow2', 'o.qcow2')},${rule}.event=pwritev`,
    { normalize: (text) => text.replace(/^qemu-img: Failed to flush.*\n/gm, '') },
  )
  for (const name of ['load', 'state', 'odd', 'group', 'nogroup', 'eventless', 'unknown', 'unquoted', 'absent']) {
    fixtures.sameOnCopies(
      'q.qcow2 rules/load rules/state rules/odd rules/group rules/nogroup rules/eventless rules/unknown rules/unquoted',
      `convert -O raw blkdebug:rules/${name}:q.qcow2 x.raw`,
      told,
    )
  }
  fixtures.sameOnCopies('r.raw q.qcow2', 'convert -n --target-image-opts r.raw driver=qcow2,file.filename=q.qcow2')
  fixtures.sameOnCopies('r.raw', 'convert -n --target-image-opts -O raw r.raw driver=raw,file.filename=r.raw')
  fixtures.sameOnCopies('r.raw', 'convert --target-image-opts r.raw driver=raw,file.filename=x.raw')
  fixtures.sameOnCopies('r.raw', 'convert -n --target-image-opts r.raw driver=raw,file.filename=nope.raw')
  fixtures.sameOnCopies('r.raw', 'convert -n r.raw null-co://')
  fixtures.sameOnCopies('r.raw', 'convert -O raw r.raw null-co://')
  fixtures.sameOnCopies('r.raw', 'create -f qcow2 null-co:// 1M')
  fixtures.sameOnCopies('r.raw', ['create', '-f', 'raw', 'json:{"driver":"file","filename":"x"}', '1M'])

  it('packs what goes through the filter compress, as QEMU does', async () => {
    const target = 'driver=compress,file.driver=qcow2,file.file.filename=packed.qcow2'
    await fixtures.qemuImg('create -q -f qcow2 packed.qcow2 1M')
    const made = await run(ourQemuImg, ['convert', '-n', '--target-image-opts', 'r.raw', target], {
      cwd: fixtures.folder,
    })
    expect(made).toMatchObject({ code: 0, stderr: '' })
    const checked = await run(ourQemuImg, ['check', '--output=json', 'packed.qcow2'], { cwd: fixtures.folder })
    expect(JSON.parse(checked.stdout)).toMatchObject({ 'compressed-clusters': 2 })
    await fixtures.qemuImg('compare r.raw packed.qcow2')
  })

  // An image that names no backing file is given one all the same, or is told that it has none.
  fixtures.same('map --image-opts driver=qcow2,file.filename=q.qcow2,backing.driver=raw,backing.file.filename=r.raw')
  fixtures.same(['map', 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"},"backing":null}'])

  it('reads no file that holds secrets out of a configuration of blkdebug', async () => {
    const { code, stderr } = await run(ourQemuImg, ['info', 'blkdebug:q.qcow2:r.raw'], { cwd: fixtures.folder })
    expect(code).toBe(1)
    expect(stderr).toContain('Could not parse blkdebug config file')
  })
})

describeWith(['qemu-img', 'qemu-io'], 'images over HTTP', () => {
  const fixtures = new Fixtures()
  let server: Server
  let address: string
  let sent = 0

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw disk.raw 64M')
    await fixtures.qemuIo('disk.raw', 'write -q -P 7 1M 100k', 'write -q -P 8 60M 64k')
    await fixtures.qemuImg('convert -c -O qcow2 disk.raw disk.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 -F qcow2 -b disk.qcow2 over.qcow2')
    server = createServer((request, response) => {
      const [, secret, name = ''] = /^\/(private\/)?(.*)/.exec(request.url ?? '') ?? []
      const { authorization, cookie } = request.headers
      if (secret !== undefined) {
        const named = authorization === `Basic ${Buffer.from('me:pass word').toString('base64')}`
        if (!named || cookie !== 'one=1; two=2') {
          response.writeHead(named ? 403 : 401).end()
          return
        }
      }
      const bytes = readFileSync(fixtures.path(name))
      const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '')
      const start = Number(range?.[1] ?? 0)
      const end = range?.[2] ? Number(range[2]) + 1 : bytes.length
      const part = bytes.subarray(start, end)
      if (request.method !== 'HEAD') sent += part.length
      response.writeHead(range === null ? 200 : 206, {
        'content-length': part.length,
        'accept-ranges': 'bytes',
        ...(range !== null && { 'content-range': `bytes ${start}-${start + part.length - 1}/${bytes.length}` }),
      })
      response.end(request.method === 'HEAD' ? undefined : part)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  it('converts a compressed image without a copy of it', async () => {
    sent = 0
    const { code, stderr } = await run(ourQemuImg, ['convert', '-O', 'raw', `${address}/disk.qcow2`, 'back.raw'], {
      cwd: fixtures.folder,
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    await fixtures.qemuImg('compare -f raw -F raw disk.raw back.raw')
    expect(sent).toBeLessThan(4 * 1024 * 1024)
  })

  it('tells facts, also by options and by a name in JSON', async () => {
    const plain = await run(ourQemuImg, ['info', `${address}/disk.qcow2`])
    expect(plain.stdout).toContain(`image: ${address}/disk.qcow2\nfile format: qcow2\nvirtual size: 64 MiB`)
    const byOptions = await run(ourQemuImg, [
      'info',
      '--image-opts',
      `driver=qcow2,file.driver=http,file.url=${address}/disk.qcow2`,
    ])
    expect(byOptions.stdout).toBe(plain.stdout)
    const json = JSON.stringify({ driver: 'qcow2', file: { driver: 'http', url: `${address}/disk.qcow2` } })
    expect((await run(ourQemuImg, ['info', `json:${json}`])).stdout).toBe(plain.stdout)
  })

  it('follows a backing file over HTTP', async () => {
    await fixtures.qemuImg(`rebase -u -F qcow2 -b ${address}/disk.qcow2 over.qcow2`)
    const { code, stdout } = await run(ourQemuImg, ['compare', 'over.qcow2', 'disk.raw'], { cwd: fixtures.folder })
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'Images are identical.\n' })
  })

  it('says who asks: a name with a password, and cookies', async () => {
    const secret = ['--object', 'secret,id=p,data=pass word', '--object', 'secret,id=c,data=one=1; two=2']
    const options = `driver=qcow2,file.driver=http,file.url=${address}/private/disk.qcow2`
    const call = (more: string) => run(ourQemuImg, ['info', ...secret, '--image-opts', `${options}${more}`])
    const named = ',file.username=me,file.password-secret=p'
    const { code, stdout, stderr } = await call(`${named},file.cookie-secret=c`)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    // Names of secrets are told, and not what they hold.
    expect(stdout).toContain('"password-secret": "p"')
    expect(stdout).not.toContain('pass word')
    expect((await call(`${named},file.cookie=one=1; two=2`)).code).toBe(0)
    for (const [more, words] of [
      ['', 'the server answered 401'],
      [',file.username=me,file.cookie-secret=c', 'the server answered 401'],
      [`${named}`, 'the server answered 403'],
      [',file.username=me,file.password-secret=x', "No secret with id 'x'"],
      [',file.cookie-secret=c,file.cookie=a', 'cannot handle both cookie and cookie secret'],
      [',file.proxy-username=me', "'proxy-username' is not supported"],
      [',file.readahead=1000', 'is not a multiple of 512'],
      [`${named},file.cookie=one=1; two=2,file.foo=1`, "Block protocol 'http' doesn't support the option 'foo'"],
    ] as const) {
      const refused = await call(more)
      expect({ more, code: refused.code, stderr: refused.stderr }).toEqual({
        more,
        code: 1,
        stderr: expect.stringContaining(words),
      })
    }
  })

  it('refuses to write, and says what is not there', async () => {
    const written = await run(ourQemuImg, ['resize', `${address}/disk.qcow2`, '+1M'])
    expect(written).toMatchObject({ code: 1 })
    expect(written.stderr).toContain('cannot be written over HTTP')
    const absent = await run(moraine, ['inspect', `${address.replace(/\d+$/, '1')}/x`])
    expect(absent.code).not.toBe(0)
  })
})

describeWith(['openssl', 'qemu-img'], 'images over HTTPS', () => {
  const fixtures = new Fixtures()
  let server: ReturnType<typeof createSecureServer>
  let address: string

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow2 disk.qcow2 8M')
    const [key, cert] = [fixtures.path('key.pem'), fixtures.path('cert.pem')]
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=nobody', '-days', '2']
    await runOk('openssl', ['req', '-x509', ...kind, '-keyout', key, '-out', cert])
    server = createSecureServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
      if (request.url === '/moved') return response.writeHead(302, { location: '/disk.qcow2' }).end()
      const bytes = readFileSync(fixtures.path('disk.qcow2'))
      const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []
      const part = first === undefined ? bytes : bytes.subarray(Number(first), Number(last) + 1)
      response.writeHead(first === undefined ? 200 : 206, {
        'content-length': part.length,
        'accept-ranges': 'bytes',
        ...(first !== undefined && {
          'content-range': `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`,
        }),
      })
      return response.end(request.method === 'HEAD' ? undefined : part)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  it('a certificate that nobody vouches for is refused, and with sslverify=off is not looked at', async () => {
    const options = (name: string) => `driver=qcow2,file.driver=https,file.url=${address}/${name}`
    const refused = await run(ourQemuImg, ['info', '--image-opts', options('disk.qcow2')])
    expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('certificate') })
    for (const name of ['disk.qcow2', 'moved']) {
      const taken = await run(ourQemuImg, ['info', '--image-opts', `${options(name)},file.sslverify=off`])
      expect(taken).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('virtual size: 8 MiB') })
    }
  })
})
