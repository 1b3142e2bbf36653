/** Product, properties, licences and notes of appliances, as `ova create` and `ova set` write them: xmllint reads them, and so does `ova info`. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { makeCertificate } from '../../engine/test/support/certificate.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { command, ok, other, unpackInto } from './support/appliance.ts'
import { moraine } from './support/differential.ts'

const folder = temporaryFolder()
const raw = folder.file('disk.raw')
const signed = folder.file('signed.ova')

describeWith(['qemu-img', 'tar', 'openssl', 'xmllint'], 'what a machine says of its software', () => {
  const licence = folder.file('licence.txt')
  const shop = folder.file('shop.ova')
  const facts = ['--product', 'Shop & Co', '--vendor', 'Maker', '--version', '2.1', '--annotation', 'first <note>']
  const properties = ['hostname=shop', 'port:uint16=8080', 'admin:password', 'debug:boolean=false']
  beforeAll(async () => {
    writeFileSync(raw, Buffer.alloc(3 << 20, 'what a disk holds '))
    const [key, certificate] = [folder.file('key.pem'), folder.file('cert.pem')]
    makeCertificate(key, certificate, 'maker')
    await ok('ova', 'create', '--disk', raw, '--for', 'vmware', '--sign', `${key},${certificate}`, signed)
    writeFileSync(licence, 'You may use it.\r\n\n  1. <Not> to "sell" & co.\n\t2. Ümläut\n')
    const given = properties.flatMap((text) => ['--property', text])
    await ok('ova', 'create', '--disk', raw, ...facts, '--eula', licence, '--eula', licence, ...given, '--cd', shop)
  })

  /** What xmllint finds in the descriptor of an archive. */
  function found(archive: string, path: string): string {
    const { path: folderOf, names } = unpackInto(folder.fresh('.d'), archive)
    const steps = path.replace(/([/[])([A-Z]\w+)(?=[/[\])]|$)/g, "$1*[local-name()='$2']")
    return other('xmllint', ['--nonet', '--xpath', steps, join(folderOf, names[0] ?? '')])
  }
  /** Names of the elements in the product section, as they stand. */
  const order = (archive: string) => found(archive, '//ProductSection/*').match(/(?<=<)\w+/g)

  it('stands where the schema has it, as xmllint reads it', async () => {
    expect(await command('ova', 'check', shop)).toBe('0\nNo errors were found.\n')
    expect(order(shop)).toEqual(['Info', 'Product', 'Vendor', 'Version', ...properties.map(() => 'Property')])
    expect(found(shop, 'string(//EulaSection[1]/License)')).toBe(
      'You may use it.\n\n  1. <Not> to "sell" & co.\n\t2. Ümläut\n',
    )
    expect(found(shop, 'string(//AnnotationSection/Annotation)')).toBe('first <note>\n')
    expect(found(shop, "string(//VirtualHardwareSection/@*[local-name()='transport'])")).toBe(
      'com.vmware.guestInfo iso\n',
    )
    const text = await ok('ova', 'info', shop)
    expect(text).toContain('  product: Shop & Co 2.1 by Maker\n')
    expect(text).toContain('  properties: 4\n  licences: 2\n')
    const [machine] = JSON.parse(await ok('ova', 'info', '--output=json', shop)).machines
    expect(machine.annotation).toBe('first <note>')
    expect(machine.products[0].properties).toMatchObject([
      { id: 'hostname', type: 'string', value: 'shop', 'user-configurable': true },
      { id: 'port', type: 'uint16', value: '8080' },
      { id: 'admin', type: 'string' },
      { id: 'debug', type: 'boolean', value: 'false' },
    ])
  })

  it('is changed where it stands, and made where it is missing', async () => {
    const changed = folder.file('shop2.ova')
    writeFileSync(folder.file('other.txt'), 'Another licence')
    const same = ['--version', '2.2 <b>', '--eula', folder.file('other.txt'), '--annotation', 'second']
    await ok('ova', 'set', ...same, '--property', 'port=81', '--property', 'new=1 & 2', shop, changed)
    expect(await command('ova', 'check', changed)).toBe('0\nNo errors were found.\n')
    expect(await ok('ova', 'info', changed)).toContain('  product: Shop & Co 2.2 <b> by Maker\n')
    expect(found(changed, '//License/text()')).toBe('Another licence\n')
    expect(found(changed, '//Annotation/text()')).toBe('second\n')
    const [{ products }] = JSON.parse(await ok('ova', 'info', '--output=json', changed)).machines
    const values = products[0].properties.map(({ id, value }: { id: string; value: string }) => [id, value])
    expect(values).toEqual([
      ['hostname', 'shop'],
      ['port', '81'],
      ['admin', undefined],
      ['debug', 'false'],
      ['new', '1 & 2'],
    ])
    const { path: unpacked, names } = unpackInto(folder.fresh('.d'), changed)
    const descriptor = join(unpacked, names[0] ?? '')
    writeFileSync(descriptor, readFileSync(descriptor, 'utf8').replace('ovf:value="81"', 'ovf:value="many"'))
    expect(await command('ova', 'check', descriptor)).toMatch(
      /^warning property-value: .*port.*many.*, which is no uint16 /m,
    )
    const bare = folder.file('bare.ova')
    await ok('ova', 'set', ...facts, '--eula', licence, '--property', 'hostname=a', signed, bare)
    expect(await command('ova', 'check', bare)).toBe('0\nNo errors were found.\n')
    expect(order(bare)).toEqual(['Info', 'Product', 'Vendor', 'Version', 'Property'])
    expect(found(bare, "string(//VirtualHardwareSection/@*[local-name()='transport'])")).toBe('com.vmware.guestInfo\n')
    // Facts that come later stand before those that are there already.
    const late = folder.file('late.ova')
    await ok('ova', 'create', '--disk', raw, '--version', '1', '--property', 'x', late)
    await ok('ova', 'set', '--vendor', 'V', '--product', 'P', late)
    expect(order(late)).toEqual(['Info', 'Product', 'Vendor', 'Version', 'Property'])
  })

  it.each([
    [['--property', '=x'], /KEY\[:TYPE\]\[=VALUE\] is expected/],
    [['--property', 'a:uint8=256'], /a value of the type uint8/],
    [['--property', '1 2=x'], /the property cannot be so/],
    [['--property', 'a=1', '--property', 'a=2'], /each key once/],
    [['--product', 'a\u0001'], /a character that XML cannot have/],
  ])('%j is refused, by create and by set, and leaves nothing', async (args, said) => {
    const target = folder.fresh('.ova')
    expect(await command('ova', 'create', '--disk', raw, ...args, target)).toMatch(said)
    expect(await command('ova', 'set', ...args, signed, target)).toMatch(said)
    expect(existsSync(target)).toBe(false)
  })

  it('shows how far it is', async () => {
    const target = folder.file('progress.ova')
    const disks = ['--disk', raw, '--disk', raw]
    const lines = (text: string) =>
      text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
    const made = await run(moraine, ['ova', 'create', '--progress=json', ...disks, target])
    expect(made.code).toBe(0)
    expect(lines(made.stderr).at(-1)).toMatchObject({ operation: 'ova create', percent: 100 })
    const { total } = lines(made.stderr).at(-1)
    const piped = await run('sh', [
      '-c',
      '"$@" > /dev/null',
      'sh',
      moraine,
      'ova',
      'create',
      '--progress=json',
      ...disks,
      '-',
    ])
    // Through a pipe each disk is packed twice.
    expect(lines(piped.stderr).at(-1)).toMatchObject({ done: total * 2, total: total * 2, percent: 100 })
    const percents = lines(piped.stderr).map(({ percent }) => percent)
    expect(percents).toEqual(percents.toSorted((a, b) => a - b))
    const set = await run(moraine, ['ova', 'set', '--progress=json', '--cpus', '2', target])
    expect(lines(set.stderr).at(-1)).toMatchObject({ operation: 'ova set', percent: 100 })
    expect((await run(moraine, ['ova', 'set', '-p', '--cpus', '3', target])).stdout).toContain('(100.00/100%)')
  })
})
