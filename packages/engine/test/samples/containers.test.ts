/** Real files by other vendors' tools that are no disk images, or hold what the manifest tells of: partition tables, appliances, manifests, an image within an image. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  allContainers,
  allFormats,
  describeGuest,
  findFormat,
  inspectSource,
  isOvfPackage,
  openContainer,
  xmlParser,
} from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { attributeOf, type XmlElement } from '../../src/codec/xml/document.ts'
import { readManifest } from '../../src/container/ovf/manifest.ts'
import { closing, openImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { type Sample, samples, samplesFolder, unpackedSample } from '../support/samples.ts'

const folder = temporaryFolder()
const title =
  samplesFolder === undefined
    ? 'samples that are no disks [skipped: the folder MORAINE_SAMPLES is not there]'
    : 'samples that are no disks'

function sample(file: string): Sample {
  const found = samples().find((one) => one.file === file)
  if (found === undefined) throw new Error(`${file} is not among the samples`)
  return found
}

function bytesAt(file: string): Buffer {
  return readFileSync(join(samplesFolder ?? '', sample(file).file))
}

/** Elements of a name, wherever they stand. */
function elements(element: XmlElement, local: string): XmlElement[] {
  const below = element.children.flatMap((child) => elements(child, local))
  return element.local === local ? [element, ...below] : below
}

describe.skipIf(samplesFolder === undefined)(title, () => {
  it('every row of the manifest is looked at by some test', () => {
    const others = samples().filter(({ format }) => findFormat(allFormats, format) === undefined)
    // Descriptors lie in a folder of their own, which their tests read whole.
    expect(others.map(({ file }) => file).filter((file) => !file.startsWith('ovf/'))).toEqual([
      'etcher-sdk/images/etcher-gpt-test-partitions.json',
      'etcher-sdk/images/etcher-test-partitions.json',
      'glance/testserver-no-ovf.ova',
      'glance/testserver.ova',
      'govmomi/ttylinux-pc_i486-16.1.mf',
    ])
  })

  it.each([
    ['gpt', 'etcher-sdk/images/etcher-gpt-test.img.gz', 'etcher-sdk/images/etcher-gpt-test-partitions.json'],
    ['mbr', 'etcher-sdk/gz/etcher-test.img.gz', 'etcher-sdk/images/etcher-test-partitions.json'],
  ])('the partitions of a disk with %s are those of its list', async (scheme, image, list) => {
    interface Listed {
      index: number
      offset: number
      size: number
      type: string | number
      guid?: string
      name?: string
    }
    const listed = JSON.parse(bytesAt(list).toString()) as Listed[]
    const source = await openFile(unpackedSample(sample(image), folder.fresh()))
    const { table } = await describeGuest(source)
    await source.close()
    expect(table?.scheme).toBe(scheme)
    expect(
      table?.partitions.map(({ number, offset, size, type, uuid, name }) => ({
        index: number,
        offset,
        size,
        ...(scheme === 'mbr' ? { type: Number(type) } : { type: type.toUpperCase(), guid: uuid?.toUpperCase(), name }),
      })),
    ).toEqual(listed)
    expect(listed.length).toBeGreaterThan(1)
  })

  it('the manifest of an appliance of VMware', () => {
    const { file } = sample('govmomi/ttylinux-pc_i486-16.1.mf')
    const { entries } = readManifest(bytesAt(file), 'ttylinux.mf', file)
    expect(entries.map(({ file: name, digest, hex, line }) => [name, digest, hex, line])).toEqual([
      ['ttylinux-pc_i486-16.1.ovf', 'sha1', '06271f767e0d5671c67e4edeaa2c157cabb66c2b', 1],
      ['ttylinux-pc_i486-16.1-disk1.vmdk', 'sha1', '648e20a1e1625b1bb963b08c926bc18e62f15dfc', 2],
    ])
  })

  const xml = xmlParser(() => import('saxes'))

  it('the appliance of Glance has what Glance takes from it', async () => {
    const source = await openFile(join(samplesFolder ?? '', 'glance/testserver.ova'))
    const appliance = await openContainer(source, allContainers, { xml })
    if (appliance === undefined || !isOvfPackage(appliance)) throw new Error('no package')
    const [machine, ...more] = appliance.machines()
    expect(more).toEqual([])
    expect(machine).toMatchObject({
      id: 'testserver',
      name: 'testserver',
      families: ['virtualbox-2.2'],
      os: { id: 94, description: 'Ubuntu_64' },
      cpus: 1,
      memory: 512 * 1024 * 1024,
      nics: [{ network: 'NAT', model: 'E1000' }],
    })
    expect(machine?.drives.find(({ kind }) => kind === 'disk')).toMatchObject({
      diskId: 'vmdisk2',
      file: 'testserver-disk1.vmdk',
      capacity: 8589934592,
      controller: { kind: 'sata', subType: 'AHCI' },
    })
    // Its own properties of the processor, under the names that CIM has for them.
    const { root } = appliance.envelope.document
    expect(elements(root, 'InstructionSet').map(({ text }) => text)).toEqual(['DMTF:x86:64'])
    expect(elements(root, 'InstructionSetExtensionName').map(({ text }) => text)).toEqual(['DMTF:x86:VT-d'])
    expect(elements(root, 'File').map((file) => attributeOf(file, 'href'))).toEqual(['testserver-disk1.vmdk'])
    await source.close()
  })

  it('an appliance without a descriptor gives one clear error', async () => {
    const source = await openFile(join(samplesFolder ?? '', 'glance/testserver-no-ovf.ova'))
    await expect(openContainer(source, allContainers, { xml })).rejects.toMatchObject({
      name: 'MoraineError',
      kind: 'invalid',
      field: 'member',
      message: expect.stringContaining('the OVA has no descriptor'),
    })
    await source.close()
  })

  it('an optical volume within a qcow2 is seen', async () => {
    const file = join(samplesFolder ?? '', 'qemu-uefi/bios-tables-test.x86_64.iso.qcow2')
    const [outside, inside, content] = await closing(await openImage(file, 'qcow2'), async (disk) => [
      (await inspectSource(disk.file)).format,
      (await inspectSource(disk)).format,
      (await describeGuest(disk)).content.map(({ format }) => format),
    ])
    expect([outside, inside]).toEqual(['qcow2', 'iso'])
    expect(content).toContain('iso9660')
  })
})
