/** Appliances: the disks in an OVA are looked at as those are that come alone, and imports can take the only one out. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { ask, binary, createImage, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()

function descriptor(...hrefs: string[]): string {
  return `<?xml version="1.0"?><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References>${hrefs.map((href, index) => `<File ovf:id="f${index}" ovf:href="${href}"/>`).join('')}</References>
<DiskSection><Info/>${hrefs.map((_, index) => `<Disk ovf:diskId="d${index}" ovf:fileRef="f${index}" ovf:capacity="3145728"/>`).join('')}</DiskSection></Envelope>`
}

function appliance(text: string, ...names: string[]): Buffer {
  writeFileSync(folder.file('box.ovf'), text)
  return execFileSync('tar', ['-C', folder.file('.'), '-cf', '-', 'box.ovf', ...names], { maxBuffer: 1 << 28 })
}

describeWith(['qemu-img', 'tar', 'gzip'], 'an appliance', () => {
  let subject: Subject
  const raw = folder.file('disk.raw')
  beforeAll(async () => {
    subject = await start()
    await qemuImg('create', '-q', '-f', 'raw', raw, '3M')
    await qemuIo(raw, 'raw', 'write -P 17 64k 1M')
    await qemuImg('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, folder.file('good.vmdk'))
    execFileSync('gzip', ['-k', folder.file('good.vmdk')])
    writeFileSync(
      folder.file('evil.vmdk'),
      `# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n\nRW 6144 FLAT "/etc/passwd" 0\n`,
    )
    await qemuImg(
      'create',
      '-q',
      '-f',
      'qcow2',
      '-u',
      '-b',
      '/etc/passwd',
      '-F',
      'raw',
      folder.file('evil.qcow2'),
      '3M',
    )
    execFileSync('gzip', ['-k', folder.file('evil.qcow2')])
  })

  async function offer(data: Uint8Array, to = subject) {
    const id = await createImage(to.url, { disk_format: 'vmdk', container_format: 'ova' })
    const answer = await upload(to.url, id, data)
    const { status } = await showImage(to.url, id)
    return `${answer.status} ${status} ${answer.body.toString()}`
  }

  it.each([
    ['good.vmdk', ['good.vmdk'], /^204 active $/],
    ['good.vmdk', ['good.vmdk', 'evil.vmdk'], /^204 active $/],
    [
      'evil.vmdk',
      ['evil.vmdk'],
      /^4\d\d queued .*the disk .*evil\.vmdk.* in the ova: the image data is vmdk, and not safe/s,
    ],
    ['evil.qcow2', ['evil.qcow2'], /^4\d\d queued .*the disk .*evil\.qcow2.* in the ova: .*backing file/s],
    ['../etc/passwd', [], /^4\d\d queued .*the descriptor names a file outside the package/s],
    ['absent.vmdk', [], /^4\d\d queued .*has no file 'absent\.vmdk'/s],
  ])('with %s and the members %j', async (href, names, said) => {
    expect(await offer(appliance(descriptor(href), ...names))).toMatch(said)
  })

  it('looks into a disk that is packed, and at every disk', async () => {
    const packed = (name: string) => descriptor(name).replace('ovf:href', 'ovf:compression="gzip" ovf:href')
    expect(await offer(appliance(packed('good.vmdk.gz'), 'good.vmdk.gz'))).toMatch(/^204 /)
    expect(await offer(appliance(packed('evil.qcow2.gz'), 'evil.qcow2.gz'))).toMatch(
      /evil\.qcow2\.gz.* in the ova: .*backing file/s,
    )
    expect(await offer(appliance(descriptor('good.vmdk', 'evil.vmdk'), 'good.vmdk', 'evil.vmdk'))).toMatch(
      /evil\.vmdk.* in the ova/s,
    )
  })

  it('refuses what is none, unless the operator wants no match', async () => {
    expect(await offer(readFileSync(folder.file('good.vmdk')))).toMatch(
      /^4\d\d queued .*the image data is no ova, but container_format says ova/s,
    )
    expect(await offer(appliance('<!DOCTYPE a [<!ENTITY b "c">]><Envelope/>'))).toMatch(
      /^4\d\d queued .*a broken ova: .*document type declaration/s,
    )
    expect(await offer(Buffer.from('no ova'), await start({ requireFormatMatch: false }))).toMatch(/^204 /)
  })

  it('gives its only disk to an import that converts', async () => {
    const to = await start({ importConvert: 'qcow2' })
    const importInto = async (data: Uint8Array) => {
      const id = await createImage(to.url, { disk_format: 'vmdk', container_format: 'ova' })
      await ask(`${to.url}/v2/images/${id}/stage`, 'PUT', data, binary)
      await ask(`${to.url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method: { name: 'glance-direct' } }), {
        'content-type': 'application/json',
      })
      for (const end = Date.now() + 20_000; Date.now() < end; await sleep(20)) {
        const image = await showImage(to.url, id)
        if (image.status === 'active') return { id, image }
        const { tasks } = (await ask(`${to.url}/v2/images/${id}/tasks`)).json<{
          tasks: { status: string; message: string }[]
        }>()
        const failed = tasks.find(({ status }) => status === 'failure')
        if (failed !== undefined) return { id, image: { ...image, said: failed.message } }
      }
      throw new Error('it does not end')
    }
    const { id, image } = await importInto(appliance(descriptor('good.vmdk'), 'good.vmdk'))
    expect(image).toMatchObject({
      status: 'active',
      disk_format: 'qcow2',
      container_format: 'bare',
      virtual_size: 3 << 20,
    })
    writeFileSync(folder.file('back.qcow2'), (await ask(`${to.url}/v2/images/${id}/file`)).body)
    expect(await qemuImg('compare', raw, folder.file('back.qcow2'))).toContain('Images are identical.')
    const several = await importInto(appliance(descriptor('good.vmdk', 'good.vmdk.gz'), 'good.vmdk', 'good.vmdk.gz'))
    expect(several.image).toMatchObject({ status: 'active', disk_format: 'vmdk', container_format: 'ova' })
    const evil = await importInto(appliance(descriptor('evil.qcow2'), 'evil.qcow2'))
    expect(evil.image).toMatchObject({ status: 'queued', said: expect.stringContaining('backing file') as unknown })
  })
})
