/** QEMU's drivers in the place of a format, as in `-f file` and `-O host_device`, and names of what can be written but not made. */
import { readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, ourQemuImg } from './support/differential.ts'

/** QEMU says beside its own words which package has a module that is not there. */
const normalize = (text: string): string => text.replaceAll(/^qemu: module .*\n/gm, '')

/** Drivers of the modules that Debian's `qemu-block-extra` has, those that need more than a file, and one that nobody has. */
const out = ['rbd', 'quorum', 'nvme', 'nope']

/** Gives a dynamic VHD another current size than the one of its geometry, in both of its footers. */
function saySize(path: string, size: number): void {
  const bytes = readFileSync(path)
  for (const at of [0, bytes.length - 512]) {
    const footer = bytes.subarray(at, at + 512)
    footer.writeBigUInt64BE(BigInt(size), 48)
    footer.writeUInt32BE(0, 64)
    footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64)
  }
  writeFileSync(path, bytes)
}

describeWith(['qemu-img', 'qemu-io'], 'drivers in the place of a format', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw a.raw 1M')
    await fixtures.qemuIo('a.raw', 'write -P 7 64k 100k')
    await fixtures.qemuImg('convert -O qcow2 a.raw q.qcow2')
    await fixtures.qemuImg('create -q -f vpc two.vpc 1M')
    saySize(fixtures.path('two.vpc'), 1 << 20)
    for (const [name, base, format] of [
      ['plain', 'a.raw', 'file'],
      ['through', 'q.qcow2', 'file'],
      ['device', 'a.raw', 'host_device'],
      ['export', 'a.raw', 'nbd'],
      ['votes', 'a.raw', 'quorum'],
    ]) {
      await fixtures.qemuImg(`create -q -f qcow2 -b a.raw -F raw ${name}.qcow2`)
      await fixtures.qemuImg(`rebase -u -b ${base} -F ${format} ${name}.qcow2`)
    }
  })

  for (const name of ['plain', 'through', 'device', 'export', 'votes']) {
    for (const verb of ['info', 'info --backing-chain', 'map', 'map --output=json', 'check', 'measure -O raw']) {
      fixtures.same(`${verb} ${name}.qcow2`)
    }
    fixtures.same(`compare -F file ${name}.qcow2 a.raw`)
    fixtures.sameOnCopies(`a.raw q.qcow2 ${name}.qcow2`, `convert -O raw ${name}.qcow2 new`)
  }
  for (const line of ['rebase -u -b a.raw -F file', 'rebase -b a.raw -F file', 'rebase -u -b a.raw -F rbd', 'info']) {
    fixtures.sameOnCopies('a.raw plain.qcow2', `${line} plain.qcow2`, { normalize })
  }
  for (const line of [
    'info -f file q.qcow2',
    'info -f file --output=json a.raw',
    'map -f file a.raw',
    'map --output=json -f file a.raw',
    'compare -f file -F raw a.raw a.raw',
    'check -f file a.raw',
    'check -f nbd a.raw',
    'check -f nbd nbd://localhost:1/',
    'info -f snapshot-access a.raw',
    'measure -f file a.raw',
    'measure --size 1M -O file',
    'measure --size 1M -O host_device',
    'measure --size 1M -O blkdebug',
    'create -f file -o help',
    'create -f host_device -o help',
    'create -f nbd -o help x',
    'convert -O file -o help',
    'amend -f file -o x=1 a.raw',
  ]) {
    fixtures.same(line)
  }
  for (const line of [
    'resize -f file a.raw 2M',
    'resize -f file --shrink a.raw 512k',
    'resize -f file a.raw 512k',
    'create -f file new 1M',
    'create -f file -o preallocation=full new 1000',
    'create -f file -o nope=1 new 1M',
    'create -f file -b a.raw new',
    'convert -O file a.raw new',
    'convert -n -O file q.qcow2 a.raw',
    'convert -c -O file a.raw new',
    'convert -f file -O qcow2 q.qcow2 new',
    'convert -O qcow2 -B a.raw -F file a.raw new',
    'create -f qcow2 -b a.raw -F file new',
    'create -f qcow2 -u -b gone -F quorum new 1M',
    'create -f qcow2 -u -b gone -F rbd new 1M',
    'dd -O file if=a.raw of=new',
    'dd -f file if=a.raw of=new',
    'create -f host_device new 1M',
    'create -f host_device a.raw 1M',
    'create -f vmdk -o preallocation=nope new 1M',
    'create -f nbd new 1M',
    'convert -O host_device a.raw new',
    'convert -n -O host_device q.qcow2 a.raw',
    'convert -n -O nbd q.qcow2 a.raw',
    'convert -O host_device a.raw /dev/null',
    'convert -O raw a.raw /dev/null',
    'convert -O raw a.raw /dev/full',
    'convert -O raw a.raw host_device:/dev/null',
    'convert -O raw a.raw host_device:/dev/none-here',
    'create -f raw host_device:new 1M',
    'create -f raw host_cdrom:a.raw 1M',
    'create -f raw nbd://localhost:1/ 1M',
    'create -f qcow2 -o data_file=nbd://localhost:1/ new 1M',
    'convert -O raw a.raw nbd://localhost:1/',
    'convert -O qcow2 a.raw nbd+unix:///?socket=nobody',
    'dd if=a.raw of=nbd://localhost:1/',
  ]) {
    fixtures.sameOnCopies('a.raw q.qcow2', line, { normalize })
  }
  // QEMU leaves an empty file.
  for (const format of ['qed', 'vdi']) {
    fixtures.sameOnCopies('a.raw', `create -f ${format} -o preallocation=metadata new 1M`, { normalize, files: false })
  }
  for (const driver of out) {
    fixtures.same(`info -f ${driver} a.raw`, { normalize })
    fixtures.same(`info --image-opts driver=${driver},x=y`, { normalize })
    fixtures.same(`measure --size 1M -O ${driver}`, { normalize })
    for (const line of [
      `create -f ${driver} new 1M`,
      `create -f qcow2 -b a.raw -F ${driver} new`,
      `convert -O ${driver} a.raw new`,
      `convert -n -O ${driver} q.qcow2 a.raw`,
      `dd -O ${driver} if=q.qcow2 of=new`,
    ]) {
      fixtures.sameOnCopies('a.raw q.qcow2', line, { normalize })
    }
  }
  for (const rule of ['chs', 'current_size', 'auto', 'nope', '']) {
    for (const verb of ['info', 'info --output=json', 'map --output=json', 'measure -O raw']) {
      fixtures.same(`${verb} --image-opts driver=vpc,force_size_calc=${rule},file.filename=two.vpc`)
    }
  }
  for (const options of [
    'driver=file,filename=a.raw,aio=native',
    'driver=raw,file.filename=a.raw,file.aio=native',
    'driver=raw,file.filename=a.raw,file.aio=native,file.cache.direct=on',
    'driver=raw,file.filename=a.raw,file.aio=native,cache.direct=on',
    'driver=raw,file.filename=a.raw,file.aio=nope',
    'driver=raw,file.filename=a.raw,file.pr-manager=x',
    'driver=host_cdrom,filename=a.raw',
  ]) {
    fixtures.same(`info --image-opts ${options}`)
  }

  it('are listed by the help as QEMU lists them, save those that are out of reach', async () => {
    const formatsOf = async (program: string) => {
      const { stdout } = await run(program, ['--help'], { env: { ...process.env, MORAINE_CALLED_AS: 'qemu-img' } })
      return /^Supported formats: (.*)$/m.exec(stdout)?.[1]?.split(' ') ?? []
    }
    const [theirs, ours] = [await formatsOf('qemu-img'), await formatsOf(ourQemuImg)]
    expect(ours).toEqual(theirs.filter((name) => ours.includes(name)))
    expect(theirs.filter((name) => !ours.includes(name))).toEqual(
      'blklogwrites blkverify copy-before-write ftp ftps gluster iscsi iser nfs nvme quorum rbd replication ssh vvfat'.split(
        ' ',
      ),
    )
  })
})
