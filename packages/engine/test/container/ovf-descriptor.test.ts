/** Descriptors: every one of the samples, small own ones of each generation, and what strangers write into them. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import {
  allContainers,
  checkPackage,
  isMoraineError,
  isOvfPackage,
  type Machine,
  MemoryStore,
  type OvfPackage,
  openContainer,
  openMember,
  xmlParser,
} from '@moraine/engine'
import { fileGate, nodeSigning, openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { samplesFolder } from '../support/samples.ts'

const xml = xmlParser(() => import('saxes'))

async function opened(text: string | Uint8Array): Promise<OvfPackage> {
  const container = await openContainer(MemoryStore.from(Buffer.from(text), 'a.ovf'), allContainers, { xml })
  if (container === undefined || !isOvfPackage(container)) throw new Error('no package')
  return container
}

async function failure(work: () => Promise<unknown>): Promise<string> {
  try {
    await work()
  } catch (error) {
    if (isMoraineError(error)) return `${error.kind}: ${error.message}`
    throw error
  }
  return 'it was taken'
}

const one = 'http://schemas.dmtf.org/ovf/envelope/1'
const two = 'http://schemas.dmtf.org/ovf/envelope/2'
const rasd = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData'

function item(fields: Record<string, string | number>, attributes = ''): string {
  const inner = Object.entries(fields).map(([name, value]) => `<rasd:${name}>${value}</rasd:${name}>`)
  return `<Item ${attributes}>${inner.join('')}</Item>`
}

interface Parts {
  namespace?: string
  files?: string
  disks?: string
  networks?: string
  items?: string
  more?: string
  inSystem?: string
}

function descriptor({ namespace = one, files, disks, networks, items, more = '', inSystem = '' }: Parts = {}): string {
  return `<?xml version="1.0"?>
<Envelope xmlns="${namespace}" xmlns:ovf="${namespace}" xmlns:rasd="${rasd}" xmlns:vmw="http://www.vmware.com/schema/ovf">
<References>${files ?? '<File ovf:id="f" ovf:href="a.vmdk"/>'}</References>
<DiskSection><Info/>${disks ?? '<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="10" ovf:capacityAllocationUnits="byte * 2^30" ovf:format="x"/>'}</DiskSection>
<NetworkSection><Info/>${networks ?? '<Network ovf:name="net"/>'}</NetworkSection>${more}
<VirtualSystem ovf:id="box"><Info/><VirtualHardwareSection><Info/><System><VirtualSystemType>vmx-13</VirtualSystemType></System>
${items ?? ''}</VirtualHardwareSection>${inSystem}</VirtualSystem></Envelope>`
}

const usual = [
  item({ InstanceID: 1, ElementName: 'cpu', ResourceType: 3, VirtualQuantity: 2 }),
  item({ InstanceID: 2, ElementName: 'memory', ResourceType: 4, VirtualQuantity: 512, AllocationUnits: 'byte * 2^20' }),
  item({ InstanceID: 3, ElementName: 'scsi', ResourceType: 6, ResourceSubType: 'lsilogic' }),
  item({
    InstanceID: 4,
    ElementName: 'disk',
    ResourceType: 17,
    Parent: 3,
    AddressOnParent: 0,
    HostResource: 'ovf:/disk/d',
  }),
].join('\n')

async function machineOf(parts: Parts): Promise<Machine> {
  const [machine] = (await opened(descriptor(parts))).machines()
  if (machine === undefined) throw new Error('no machine')
  return machine
}

describe('descriptors', () => {
  it.each([
    ['byte * 2^30', 10 * 2 ** 30],
    ['byte*2^20', 10 * 2 ** 20],
    ['byte * 2 ^ 10', 10 * 2 ** 10],
    ['byte * 10^9', 10e9],
    ['byte * 1024', 10_240],
    ['byte', 10],
    ['', 10],
    ['MegaBytes', 10 * 2 ** 20],
    ['GigaBytes', 10 * 2 ** 30],
  ])('capacity in %s', async (units, bytes) => {
    const disks = `<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="10" ovf:capacityAllocationUnits="${units}"/>`
    expect((await machineOf({ disks, items: usual })).drives[0]).toMatchObject({
      capacity: bytes,
      alias: 'disk1',
      file: 'a.vmdk',
      slot: 0,
    })
  })

  it('takes quantities of the default deployment option, and values of properties', async () => {
    const more =
      '<DeploymentOptionSection><Info/><Configuration ovf:id="s"/><Configuration ovf:id="l" ovf:default="true"/></DeploymentOptionSection>'
    const items = [
      item({ InstanceID: 1, ResourceType: 3, VirtualQuantity: 1 }),
      item({ InstanceID: 1, ResourceType: 3, VirtualQuantity: 8 }, 'ovf:configuration="l"'),
      item({ InstanceID: 1, ResourceType: 3, VirtualQuantity: 3 }, 'ovf:configuration="s"'),
      item({ InstanceID: 2, ResourceType: 4, VirtualQuantity: 4, AllocationUnits: 'byte * 2^30' }),
      item({ InstanceID: 2, ResourceType: 4, VirtualQuantity: 1, AllocationUnits: 'byte * 2^30' }, 'ovf:bound="min"'),
      item({ InstanceID: 4, ResourceType: 17, HostResource: '/disk/d' }),
    ].join('')
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a property as OVF writes it.
    const disks = '<Disk ovf:diskId="d" ovf:capacity="${size}" ovf:capacityAllocationUnits="byte * 2^30"/>'
    const inSystem =
      '<ProductSection><Info/><Property ovf:key="size" ovf:type="int" ovf:value="5"><Value ovf:configuration="l" ovf:value="7"/></Property></ProductSection>'
    const machine = await machineOf({ more, items, disks, inSystem })
    expect(machine).toMatchObject({ cpus: 8, memory: 4 * 2 ** 30 })
    expect(machine.drives[0]).toMatchObject({ capacity: 7 * 2 ** 30, alias: undefined })
  })

  it('reads OVF 2.0 with its own items, and OVF 0.9 with sections by type', async () => {
    const items = `${usual.replace(/<Item ([^>]*)>(.*disk.*)<\/Item>/, '<StorageItem $1>$2</StorageItem>')}<EthernetPortItem><rasd:InstanceID>9</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType><rasd:Connection>net</rasd:Connection></EthernetPortItem>`
    const later = await opened(descriptor({ namespace: two, items }))
    expect(later.envelope.version).toBe('2.0')
    expect(later.machines()[0]).toMatchObject({ cpus: 2, nics: [{ network: 'net' }] })
    expect(later.machines()[0]?.drives).toHaveLength(1)
    const old =
      await opened(`<ovf:Envelope xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope" xmlns:x="http://www.w3.org/2001/XMLSchema-instance" xmlns:rasd="${rasd}">
<References><File ovf:id="f" ovf:href="a.vmdk"/></References>
<Section x:type="ovf:DiskSection_Type"><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1"/></Section>
<Content x:type="ovf:VirtualSystem_Type" ovf:id="vm"><Section x:type="ovf:VirtualHardwareSection_Type">${usual}</Section></Content></ovf:Envelope>`)
    expect(old.envelope.version).toBe('0.9')
    expect(old.machines()[0]).toMatchObject({ id: 'vm', cpus: 2, memory: 512 * 2 ** 20 })
  })

  it('names sections that it does not know and that must be known', async () => {
    const { envelope } = await opened(
      descriptor({
        more: '<vmw:OddSection><Info/></vmw:OddSection><vmw:SoftSection ovf:required="false"/><vmw:Odd ovf:required="true"/><vmw:Soft/>',
      }),
    )
    expect(envelope.unknown).toEqual([
      { name: 'OddSection', namespace: 'http://www.vmware.com/schema/ovf', required: true, line: 5 },
      { name: 'SoftSection', namespace: 'http://www.vmware.com/schema/ovf', required: false, line: 5 },
      { name: 'Odd', namespace: 'http://www.vmware.com/schema/ovf', required: true, line: 5 },
      { name: 'Soft', namespace: 'http://www.vmware.com/schema/ovf', required: false, line: 5 },
    ])
  })

  it.each([
    ['an entity', '<!DOCTYPE a [<!ENTITY b "c">]><Envelope xmlns="x">&b;</Envelope>', /^invalid: a\.ovf: .*DOCTYPE/],
    [
      'no Envelope of OVF',
      '<Envelope xmlns="urn:x"/>',
      /^invalid: a\.ovf: the descriptor is no OVF.*Envelope of urn:x/,
    ],
    [
      'an end in the middle',
      descriptor().slice(0, 600),
      /^invalid: a\.ovf: the XML document is not well-formed: \d+:\d+/,
    ],
    [
      'collections within one another',
      `<Envelope xmlns="${one}">${'<VirtualSystemCollection>'.repeat(40)}${'</VirtualSystemCollection>'.repeat(40)}</Envelope>`,
      /^limit: .*collections within one another/,
    ],
    [
      'a size that is none',
      descriptor({ files: '<File ovf:id="f" ovf:href="a" ovf:size="-5"/>' }),
      /^invalid: .*no usable size at line 3/,
    ],
  ])('refuses %s', async (_what, text, said) => {
    expect(await failure(() => opened(text))).toMatch(said)
  })

  it.each([
    ['much', 'byte', /field capacity is much; rule: a whole number/],
    ['10', 'furlong', /field capacity is furlong; rule: a unit/],
    ['10', 'byte * 2^60', /at most 2\^53/],
    ['-1', 'byte', /a whole number/],
  ])('refuses a capacity of %s %s', async (capacity, units, said) => {
    const disks = `<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="${capacity}" ovf:capacityAllocationUnits="${units}"/>`
    expect(await failure(() => machineOf({ disks, items: usual }))).toMatch(said)
  })

  it.each([
    '../a.vmdk',
    '/etc/passwd',
    'b/../../a.vmdk',
    'http://example.org/a.vmdk',
    'file:///etc/passwd',
    'C:\\a.vmdk',
    '..\\a.vmdk',
    'a//b',
  ])('opens nothing by the reference %s', async (href) => {
    const container = await opened(descriptor({ files: `<File ovf:id="f" ovf:href="${href}"/>` }))
    expect(await failure(() => openMember(container, 'disk1'))).toMatch(
      /^denied: a\.ovf: the descriptor names a file outside the package/,
    )
  })

  it.each([
    ['id-unique', { files: '<File ovf:id="f" ovf:href="a"/><File ovf:id="f" ovf:href="b"/>' }],
    ['href-unique', { files: '<File ovf:id="f" ovf:href="a"/><File ovf:id="g" ovf:href="a"/>' }],
    ['href', { files: '<File ovf:id="f" ovf:href="../a"/>' }],
    ['compression', { files: '<File ovf:id="f" ovf:href="a" ovf:compression="rar"/>' }],
    ['reference', { disks: '<Disk ovf:diskId="d" ovf:fileRef="nobody" ovf:capacity="1"/>' }],
    ['capacity', { disks: '<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="much"/>' }],
    [
      'parent',
      {
        disks:
          '<Disk ovf:diskId="d" ovf:capacity="1" ovf:parentRef="e"/><Disk ovf:diskId="e" ovf:capacity="1" ovf:parentRef="d"/>',
      },
    ],
    ['parent', { disks: '<Disk ovf:diskId="d" ovf:capacity="1" ovf:parentRef="nobody"/>' }],
    ['network-unique', { networks: '<Network ovf:name="n"/><Network ovf:name="n"/>' }],
    ['instance-unique', { items: usual + item({ InstanceID: 4, ElementName: 'x', ResourceType: 24 }) }],
    [
      'slot-unique',
      { items: usual + item({ InstanceID: 5, ElementName: 'x', ResourceType: 17, Parent: 3, AddressOnParent: 0 }) },
    ],
    ['item-parent', { items: usual + item({ InstanceID: 5, ElementName: 'x', ResourceType: 17, Parent: 99 }) }],
    [
      'reference',
      { items: usual + item({ InstanceID: 5, ElementName: 'x', ResourceType: 17, HostResource: 'ovf:/disk/nobody' }) },
    ],
    [
      'reference',
      { items: usual + item({ InstanceID: 5, ElementName: 'x', ResourceType: 10, Connection: 'nowhere' }) },
    ],
    ['resource-type', { items: usual + item({ InstanceID: 5, ElementName: 'x' }) }],
    ['instance', { items: usual + item({ ElementName: 'x', ResourceType: 24 }) }],
    ['unknown-section', { more: '<vmw:OddSection/>' }],
    ['namespace', { more: '<nobody:OddSection/>' }],
    ['missing-file', {}],
    ['manifest', {}],
  ] as [string, Parts][])('a check finds %s', async (rule, parts) => {
    const sound = descriptor({ items: usual })
    const gate = {
      resolve: ({ name }: { name: string }) => name,
      open: () => Promise.reject(Object.assign(new Error(), { name: 'MoraineError', kind: 'missing' })),
    }
    const check = async (text: string) => {
      const container = await openContainer(MemoryStore.from(Buffer.from(text), 'a.ovf'), allContainers, { xml, gate })
      if (container === undefined || !isOvfPackage(container)) throw new Error('no package')
      return (await checkPackage(container, { signing: nodeSigning })).findings.map((finding) => finding.rule)
    }
    expect(await check(sound)).toEqual(['missing-file', 'manifest'])
    expect(await check(descriptor({ items: usual, ...parts }))).toContain(rule)
  })
})

describe.skipIf(samplesFolder === undefined)(
  `the samples${samplesFolder === undefined ? ' [skipped: the samples are not there]' : ''}`,
  () => {
    const folder = join(samplesFolder ?? '', 'ovf')
    it.each(samplesFolder === undefined ? [] : readdirSync(folder))('%s', async (name) => {
      const source = await openFile(join(folder, name))
      const container = await openContainer(source, allContainers, { xml, gate: fileGate({ lock: 'none' }) })
      // One of them is the page of a web server that had it not.
      if (name === 'descriptor.ovf') {
        expect(container).toBeUndefined()
        await source.close()
        return
      }
      if (container === undefined || !isOvfPackage(container)) throw new Error('no package')
      for (const machine of container.machines()) {
        for (const drive of machine.drives) if (drive.diskId !== undefined) expect(drive.capacity).toBeGreaterThan(0)
      }
      const { findings } = await checkPackage(container, { signing: nodeSigning })
      expect(findings.filter(({ rule }) => rule === 'capacity')).toEqual([])
      await container.close()
    })
  },
)
