/** Encryption through the command: what can be seen is what qemu-img shows, and passwords are not. */
import { createCipheriv } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, words } from './support/differential.ts'

const s = '--object secret,id=s,data=horse'
const w = '--object secret,id=w,data=battery'
const key = Buffer.alloc(32, 7)
const iv = Buffer.alloc(16, 9)
const cipher = createCipheriv('aes-256-cbc', key, iv)
const sealed = Buffer.concat([cipher.update('horse'), cipher.final()]).toString('base64')
const k = `--object secret,id=k,format=base64,data=${key.toString('base64')}`
const luks = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'

describeWith(['qemu-img'], 'encryption beside qemu-img', () => {
  const fixtures = new Fixtures()
  /** An image by its name, with its password. */
  const image = (name: string, secret = 's'): string => {
    const driver = name.split('.')[1]
    return `--image-opts driver=${driver},${driver === 'luks' ? '' : 'encrypt.'}key-secret=${secret},file.filename=${name}`
  }
  beforeAll(async () => {
    writeFileSync(fixtures.path('plain.raw'), Buffer.alloc(1 << 20, 'some content of a guest, '))
    writeFileSync(fixtures.path('password'), 'horse')
    writeFileSync(fixtures.path('line'), 'horse\n')
    for (const [format, options, name] of [
      ['luks', 'key-secret=s,iter-time=10', 'a.luks'],
      ['luks', 'key-secret=s,iter-time=10,cipher-mode=cbc,ivgen-alg=essiv,cipher-alg=twofish-128', 'cbc.luks'],
      ['qcow2', luks, 'a.qcow2'],
      ['qcow2', `${luks},compat=0.10`, 'old.qcow2'],
      ['qcow2', 'encryption=on,encrypt.key-secret=s', 'aes.qcow2'],
      ['qcow', 'encrypt.format=aes,encrypt.key-secret=s', 'aes.qcow'],
    ] as const) {
      await fixtures.qemuImg(`convert ${s} -f raw -O ${format} -o ${options} plain.raw ${name}`)
    }
    await fixtures.qemuImg('create -q -f qcow2 clear.qcow2 1M')
  }, 120_000)

  describe('without a password', () => {
    for (const name of ['a.luks', 'cbc.luks', 'a.qcow2', 'old.qcow2', 'aes.qcow2', 'aes.qcow']) {
      fixtures.same(`info ${name}`)
      fixtures.same(`info --output=json ${name}`)
      fixtures.same(`map ${name}`)
      fixtures.same(`convert -O raw ${name} x`)
    }
    fixtures.same('compare a.luks plain.raw')
    fixtures.same('measure -O raw a.qcow2')
    fixtures.same('resize a.luks 2M')
    fixtures.same(`info ${image('a.luks', 'nobody')}`)
  })

  describe('with a password', () => {
    for (const name of ['a.luks', 'cbc.luks', 'a.qcow2', 'old.qcow2', 'aes.qcow2', 'aes.qcow']) {
      fixtures.same(`map ${s} --output=json ${image(name)}`)
      fixtures.same(`check ${s} ${image(name)}`)
      fixtures.same(`measure ${s} -O qcow2 ${image(name)}`)
      fixtures.sameOnCopies(name, `convert ${w} ${image(name, 'w')} -O raw back.raw`)
      fixtures.same(`convert ${w} ${image(name)} -O raw x`)
      fixtures.sameOnCopies(name, `convert ${s} ${image(name)} -O raw back.raw`)
    }
    fixtures.same(`map ${s} ${image('a.qcow2')}`)
    fixtures.same(`check ${s} --image-opts driver=qcow2,encrypt.format=aes,encrypt.key-secret=s,file.filename=a.qcow2`)
    fixtures.same(
      `check ${s} --image-opts driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=clear.qcow2`,
    )
    fixtures.same(`info ${s} ${image('a.qcow2')}`)
    fixtures.same(`info ${s} --output=json ${image('a.luks')}`)
    fixtures.same([
      'info',
      'json:{"driver":"qcow2","encrypt.key-secret":"s","file":{"driver":"file","filename":"a.qcow2"}}',
    ])
    fixtures.sameOnCopies('a.luks', [
      `resize ${s} ${image('a.luks')} 2M`,
      `resize ${s} ${image('a.luks')} 1M`,
      'info a.luks',
    ])
    fixtures.sameOnCopies(
      'a.qcow2',
      [
        `resize ${s} ${image('a.qcow2')} 3M`,
        `snapshot ${s} -c one ${image('a.qcow2')}`,
        `check ${s} ${image('a.qcow2')}`,
        `convert ${s} ${image('a.qcow2')} -O raw back.raw`,
      ],
      { files: false },
    )
  })

  describe('of new images', () => {
    const made = { files: false }
    // QEMU measures the processor for each of them, which a busy machine makes it do again and again: one at a time.
    const plain = '--image-opts driver=raw,file.filename=plain.raw'
    for (const lines of [
      [`create ${s} -f luks -o key-secret=s,iter-time=10 new.luks 1M`],
      [`create ${s} -q -f luks -o key-secret=s,iter-time=0,hash-alg=sha1,cipher-alg=serpent-128,cipher-mode=ctr x 1M`],
      [
        `convert ${s} -f raw -O luks -o key-secret=s,iter-time=10 plain.raw two.luks`,
        `compare ${s} ${plain} ${image('two.luks').split(' ')[1]}`,
      ],
      [`create ${s} -f qcow2 -o ${luks} new.qcow2 1M`],
      [
        `create ${s} -f qcow2 -o encryption=on,encrypt.key-secret=s -b plain.raw -F raw over.qcow2`,
        `convert ${s} ${image('over.qcow2')} -O raw back.raw`,
      ],
      [
        `convert ${s} -f raw -O qcow2 -o ${luks} plain.raw two.qcow2`,
        `compare ${s} ${plain} ${image('two.qcow2').split(' ')[1]}`,
      ],
      [`create ${s} -f qcow -o encryption=on,encrypt.key-secret=s new.qcow 1M`],
    ]) {
      fixtures.sameOnCopies('plain.raw', lines, made)
    }
    fixtures.sameOnCopies('plain.raw a.luks', [
      `convert ${s} -n --target-image-opts ${plain} ${image('a.luks').split(' ')[1]}`,
      `compare ${s} ${plain} ${image('a.luks').split(' ')[1]}`,
    ])
    for (const options of [
      'encrypt.format=foo,encrypt.key-secret=s',
      'encrypt.key-secret=s',
      'encrypt.format=luks',
      'encryption=on',
      'encryption=off',
      'encryption=on,encrypt.format=luks,encrypt.key-secret=s',
      `${luks},encrypt.cipher-alg=foo`,
      `${luks},encrypt.cipher-alg=3des`,
      `${luks},encrypt.cipher-mode=foo`,
      `${luks},encrypt.ivgen-alg=foo`,
      `${luks},encrypt.hash-alg=foo`,
      `${luks},encrypt.iter-time=foo`,
      'encrypt.format=aes,encrypt.key-secret=s,encrypt.cipher-alg=aes-128',
      'encrypt.format=luks,encrypt.key-secret=nobody',
    ]) {
      fixtures.sameOnCopies('', `create ${s} -f qcow2 -o ${options} new.qcow2 1M`, made)
    }
    for (const options of ['encrypt.format=luks,encrypt.key-secret=s', 'encrypt.format=aes', 'encrypt.key-secret=s']) {
      fixtures.sameOnCopies('', `create ${s} -f qcow -o ${options} new.qcow 1M`, made)
    }
    for (const options of [
      'key-secret=nobody',
      'key-secret=s,cipher-alg=foo',
      'key-secret=s,cipher-alg=cast5-128',
      'key-secret=s,cipher-alg=cast5-128,cipher-mode=cbc,ivgen-alg=essiv',
      'key-secret=s,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha1',
      'key-secret=s,iter-time=10,preallocation=foo',
    ]) {
      fixtures.sameOnCopies('', `create ${s} -f luks -o ${options} new.luks 1M`, made)
    }
    fixtures.sameOnCopies('a.qcow2', ['create -f qcow2 -F qcow2 -b a.qcow2 over.qcow2', 'info over.qcow2'])
    fixtures.sameOnCopies('a.luks', ['create -f qcow2 -F luks -b a.luks over.qcow2', 'map over.qcow2'])
    fixtures.same('create -f luks -o help')
    fixtures.same('create -f luks new.luks 1M')
    fixtures.same(`convert ${s} -c -f raw -O qcow2 -o ${luks} plain.raw x`)
    fixtures.same(`convert ${s} -c -f raw -O luks -o key-secret=s plain.raw x`)
    for (const line of [
      '-O luks -o key-secret=s --size 1M',
      '-O luks -o key-secret=s,cipher-mode=cbc --size 1G',
      '-O luks --size 1M',
      `-O qcow2 -o ${luks} --size 1G`,
      '-O qcow2 -o encrypt.format=luks --size 1G',
      '-O qcow2 -o encrypt.format=aes,encrypt.key-secret=s --size 1G',
    ]) {
      fixtures.same(`measure ${s} ${line}`)
    }
  })

  describe('by secrets', () => {
    for (const object of [
      'secret,id=s,data=horse',
      'secret,id=s,file=password',
      'secret,id=s,file=line',
      'secret,id=s,file=nobody',
      'secret,id=s,data=aG9yc2U=,format=base64',
      'secret,id=s,data=aG!yc2U=,format=base64',
      'secret,id=s,data=horse,format=foo',
      'secret,id=s',
      'secret,data=horse',
      'secret,id=s,data=horse,file=password',
      'secret,id=s,data=horse,foo=1',
      'secret,id=1s,data=horse',
      'foo,id=s',
      'foo',
      'id=s',
      'qom-type=secret,id=s,data=horse',
      '{"qom-type":"secret","id":"s","data":"horse"}',
      `secret,id=s,data=${sealed},keyid=k,iv=${iv.toString('base64')},format=base64`,
      `secret,id=s,data=${sealed},keyid=k,format=base64`,
      `secret,id=s,data=${sealed},keyid=nobody,iv=${iv.toString('base64')},format=base64`,
      `secret,id=s,data=${sealed},keyid=k,iv=aG9yc2U=,format=base64`,
      `secret,id=s,data=aG9yc2U=,keyid=k,iv=${iv.toString('base64')},format=base64`,
      'secret,id=k,data=horse',
      'secret,id=s,data=',
      'secret,id=s,data=ho,,rse',
    ]) {
      const read = (name: string) => [
        ...words(`convert ${k} --object`),
        object,
        ...words(`${image(name)} -O raw back.raw`),
      ]
      fixtures.sameOnCopies('aes.qcow2 password line', [read('aes.qcow2')])
      fixtures.sameOnCopies('a.luks password line', [read('a.luks')])
    }
  })

  it('are not shown, whatever goes wrong', async () => {
    for (const line of [
      `convert ${w} --object secret,id=s,data=battery ${image('a.luks')} -O raw x`,
      `convert ${w} --object secret,id=s,data=battery,keyid=w ${image('a.luks')} -O raw x`,
      `create ${w} -f luks -o key-secret=w,cipher-alg=foo x 1M`,
    ]) {
      const { code, stdout, stderr } = await run(moraine, words(line), { cwd: fixtures.folder })
      expect(code).toBe(1)
      expect(stdout + stderr).not.toContain('battery')
    }
  })
})
