/** `moraine seed`: cloud-init's own code reads what it makes, and what cloud-init would not take is refused. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run, runOk } from '../../engine/test/support/process.ts'
import { Failure } from '../src/failure.ts'
import { noObjects } from '../src/objects/objects.ts'
import type { TextOutput } from '../src/output/streams.ts'
import { readArguments } from '../src/parse.ts'
import { personaFor } from '../src/persona.ts'
import type { Context } from '../src/verb.ts'
import { verb } from '../src/verbs/seed.ts'
import { moraine } from './support/differential.ts'

const folder = temporaryFolder()
process.env.SOURCE_DATE_EPOCH = '1700000000'
const env = { ...process.env, LC_ALL: 'C.UTF-8' }
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2Vd0Jgn0tGtUIj1sQUeK3nDFkqX2pTnJdOcFfFqQ2b someone@somewhere'
const otherKey = 'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY= other'

function file(name: string, content: string | Uint8Array): string {
  const path = folder.file(name)
  writeFileSync(path, content)
  return path
}

const userData = file(
  'user-data',
  '#cloud-config\n# what it does\npackages:\n  - htop # a tool\nruncmd:\n  - [echo, grüße]\n',
)
const network = file('net.yaml', 'version: 2\nethernets:\n  eth0:\n    dhcp4: true\n')
const keys = file('keys.pub', `# two of them\n${key}\n\n${otherKey}\n`)

/** The verb in this process, which starts no program: its output. */
async function seed(...args: string[]): Promise<string> {
  const persona = personaFor('moraine')
  const request = readArguments(verb, persona, args, () => {})
  if (request.kind !== 'run') throw new Error('it asks for help')
  let text = ''
  const out = { write: (more: string) => (text += more), flush: () => {} } as unknown as TextOutput
  const never = new AbortController().signal
  const context = {
    persona,
    out,
    err: out,
    signal: never,
    objects: noObjects(),
    report: out.write,
    warn: out.write,
  } as unknown as Context
  expect(await verb.run(request.values, request.operands, context, request.given)).toBe(0)
  return text
}

async function refusal(...args: string[]): Promise<string> {
  const target = folder.fresh('.iso')
  const failure = await Promise.resolve()
    .then(() => seed(target, ...args))
    .catch((error: unknown) => error)
  expect(existsSync(target), 'nothing is left').toBe(false)
  if (!(failure instanceof Failure)) throw failure
  return [...failure.messages, failure.hint].join('\n')
}

/** The files of a seed, in a folder, as another program takes them out. */
async function unpack(image: string, how: 'xorriso' | 'mtools'): Promise<string> {
  const target = folder.fresh()
  if (how === 'xorriso') await runOk('xorriso', ['-osirrox', 'on', '-indev', image, '-extract', '/', target], { env })
  else await runOk('sh', ['-c', 'mkdir "$1" && mcopy -s -n -i "$0" "::*" "$1"', image, target], { env })
  return target
}

/** What cloud-init's own NoCloud source makes of a folder: meta-data, user-data, network. */
async function readByNoCloud(path: string) {
  const script = `
import json, sys
from unittest import mock
from cloudinit import helpers, settings, util
from cloudinit.sources import DataSourceNoCloud as nc
paths = helpers.Paths({"cloud_dir": sys.argv[2], "run_dir": sys.argv[2], "templates_dir": "/nowhere"})
from cloudinit.distros import debian
distro = debian.Distro("debian", {}, paths)
source = nc.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, distro, paths)
source.seed_dirs = [sys.argv[1]]
with mock.patch("cloudinit.dmi.read_dmi_data", return_value=None), mock.patch("cloudinit.util.get_cmdline", return_value=""):
    assert source._get_data(), "it is no seed"
print(json.dumps({"id": source.get_instance_id(), "keys": source.get_public_ssh_keys(), "host": str(source.get_hostname()),
  "user": source.get_userdata_raw().decode(), "vendor": (source.get_vendordata_raw() or b"").decode() if not isinstance(source.get_vendordata_raw(), str) else source.get_vendordata_raw(),
  "network": source.network_config, "processed": source.get_userdata().as_string()[:4000]}))
`
  return await python(script, path)
}

async function readByConfigDrive(path: string) {
  const script = `
import json, sys
from cloudinit.sources import DataSourceConfigDrive as cd, convert_vendordata
from cloudinit.sources.helpers import openstack
found = cd.read_config_drive(sys.argv[1])
network = openstack.convert_net_json(found["networkdata"], known_macs={"52:54:00:12:34:56": "eth0"}) if "networkdata" in found else None
vendor = found.get("vendordata")
print(json.dumps({"meta": found["metadata"], "user": found["userdata"].decode() if isinstance(found["userdata"], bytes) else found["userdata"],
  "version": found["version"], "network": network, "vendor": convert_vendordata(vendor) if vendor else None}))
`
  return await python(script, path)
}

async function python(script: string, path: string) {
  const scratch = folder.fresh()
  mkdirSync(scratch)
  const text = await runOk('/usr/bin/python3', ['-c', script, path, scratch], { env })
  return JSON.parse(text.trimEnd().split('\n').at(-1) ?? '')
}

async function expectValid(config: string | Uint8Array): Promise<void> {
  const { code, stdout, stderr } = await run('cloud-init', ['schema', '--config-file', file('to-validate', config)], {
    env,
  })
  expect(code, stdout + stderr).toBe(0)
}

describeWith(['cloud-init', 'xorriso', 'mcopy', 'fsck.fat', 'blkid', 'openssl'], 'seeds for cloud-init', () => {
  it.each([
    ['iso', 'xorriso'],
    ['fat', 'mtools'],
  ] as const)('NoCloud on %s, read by its source', async (format, how) => {
    const image = folder.fresh('.img')
    const vendor = file('vendor', '#cloud-config\ntimezone: UTC\n')
    const output = await seed(
      image,
      '--format',
      format,
      '-u',
      userData,
      '-n',
      network,
      '--vendor-data',
      vendor,
      '-k',
      keys,
      '-H',
      'web.example.org',
      '-i',
      'i-1',
    )
    expect(output).toBe('cidata seed for instance i-1: meta-data, network-config, user-data, vendor-data\n')
    expect(await runOk('blkid', ['-p', '-s', 'LABEL', '-o', 'value', image])).toBe(
      format === 'iso' ? 'cidata\n' : 'CIDATA\n',
    )
    if (format === 'fat') await runOk('fsck.fat', ['-n', image])
    const found = await readByNoCloud(await unpack(image, how))
    expect(found).toMatchObject({
      id: 'i-1',
      keys: [key, otherKey],
      user: readFileSync(userData, 'utf8'),
      vendor: readFileSync(vendor, 'utf8'),
      network: { version: 2, ethernets: { eth0: { dhcp4: true } } },
    })
    expect(found.host).toContain('web')
    expect(found.processed).toContain('text/cloud-config')
  })

  it('always has a meta-data, whose instance id changes with the content alone', async () => {
    const ids: string[] = []
    for (const args of [[], [], ['-u', userData]]) {
      const image = folder.fresh('.iso')
      ids.push(await seed(image, ...args))
      expect((await readByNoCloud(await unpack(image, 'xorriso'))).id).toMatch(/^iid-[0-9a-f]{16}$/)
    }
    expect(ids[0]).toBe(ids[1])
    expect(ids[2]).not.toBe(ids[0])
    const meta = file('meta', `instance-id: mine\npublic-keys:\n  - ${key}\nother: kept\n`)
    const image = folder.fresh('.iso')
    expect(await seed(image, '-m', meta, '-k', file('one.pub', otherKey))).toContain('instance mine:')
    const path = await unpack(image, 'xorriso')
    expect((await readByNoCloud(path)).keys).toEqual([key, otherKey])
    expect(readFileSync(`${path}/meta-data`, 'utf8')).toContain('other: kept')
  })

  it('a password is kept as a hash alone, and cloud-init knows it for one', async () => {
    const image = folder.fresh('.iso')
    await seed(image, '--password', 'Zeus & Hera 12', '-u', userData)
    expect(readFileSync(image).includes('Zeus')).toBe(false)
    const config = readFileSync(`${await unpack(image, 'xorriso')}/user-data`, 'utf8')
    expect(config).toMatch(/^#cloud-config\n# what it does\npackages:\n {2}- htop # a tool\n/)
    await expectValid(config)
    const hash = /^password: "?(\$6\$([./0-9A-Za-z]{16})\$[./0-9A-Za-z]{86})"?$/m.exec(config)
    const again = await runOk('openssl', ['passwd', '-6', '-salt', hash?.[2] ?? '', 'Zeus & Hera 12'])
    expect(hash?.[1]).toBe(again.trim())
    const script = `
import json, sys
from unittest import mock
from cloudinit.config import cc_set_passwords as c
from cloudinit import util, cloud, helpers
cfg = util.load_yaml(open(sys.argv[1]).read())
cfg["users"] = ["default"]
distro = mock.MagicMock()
distro.get_default_user = lambda: {"name": "debian"}
distro.name = "debian"
with mock.patch.object(c.ug_util, "normalize_users_groups", return_value=({"debian": {"default": True}}, {})), mock.patch.object(c, "handle_ssh_pwauth"):
    instance = mock.MagicMock(distro=distro)
    import logging
    c.handle("set_passwords", cfg, instance, logging.getLogger(), [])
print(json.dumps([[list(map(list, call.args[0])), call.kwargs] for call in distro.chpasswd.call_args_list] + [distro.expire_passwd.call_count]))
`
    const calls = await python(script, file('config', config))
    expect(calls).toEqual([[[['debian', hash?.[1]]], { hashed: true }], 0])
  })

  it('a password without user-data, from standard input, and a hash as it is', async () => {
    const image = folder.fresh('.iso')
    await runOk(moraine, ['seed', image, '--password-file', '-'], { env, input: 'one line\nanother\n' })
    await expectValid(readFileSync(`${await unpack(image, 'xorriso')}/user-data`))
    const hash = '$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/'
    const other = folder.fresh('.iso')
    await seed(other, '--password', hash)
    expect(readFileSync(`${await unpack(other, 'xorriso')}/user-data`, 'utf8')).toContain(hash)
  })

  it('a config drive, read by its source', async () => {
    const data = {
      links: [{ id: 'l0', type: 'phy', ethernet_mac_address: '52:54:00:12:34:56', mtu: 1500 }],
      networks: [{ id: 'n0', type: 'ipv4_dhcp', link: 'l0' }],
      services: [],
    }
    const image = folder.fresh('.iso')
    const vendor = file('vendor', '#cloud-config\ntimezone: UTC\n')
    const output = await seed(
      image,
      '--type',
      'config-drive',
      '-u',
      userData,
      '-n',
      file('net.json', JSON.stringify(data)),
      '-k',
      keys,
      '-H',
      'web.example.org',
      '--vendor-data',
      vendor,
    )
    expect(output).toMatch(
      /^config-2 seed for instance [0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}: openstack\/latest\/meta_data.json, /,
    )
    expect(await runOk('blkid', ['-p', '-s', 'LABEL', '-o', 'value', image])).toBe('config-2\n')
    const found = await readByConfigDrive(await unpack(image, 'xorriso'))
    expect(found).toMatchObject({
      version: 2,
      meta: { hostname: 'web.example.org', name: 'web', public_keys: { 'key-1': key, 'key-2': otherKey } },
      user: readFileSync(userData, 'utf8'),
      vendor: readFileSync(vendor, 'utf8'),
      network: { version: 1, config: [{ name: 'eth0', type: 'physical', subnets: [{ type: 'dhcp4' }] }] },
    })
    const bare = folder.fresh('.img')
    await seed(bare, '--type', 'config-drive', '--format', 'fat')
    expect(await runOk('blkid', ['-p', '-s', 'LABEL', '-o', 'value', bare])).toBe('CONFIG-2\n')
    expect((await readByConfigDrive(await unpack(bare, 'mtools'))).meta.uuid).toMatch(/-8/)
  })
})

describeWith(['qemu-img', 'xorriso'], 'seeds as images', () => {
  it.each(['qcow2', 'vmdk', 'vdi', 'vhdx', 'vhd'])('in %s, by the name', async (format) => {
    const image = folder.fresh(`.${format}`)
    await seed(image, '-u', userData, '-q', '-i', 'one')
    const raw = folder.fresh('.raw')
    await seed(raw, '-u', userData, '-q', '-i', 'one')
    const theirs = format === 'vhd' ? 'vpc' : format
    const back = folder.fresh('.raw')
    await runOk('qemu-img', ['convert', '-f', theirs, '-O', 'raw', image, back])
    const { size } = statSync(raw)
    expect(Buffer.compare(readFileSync(back).subarray(0, size), readFileSync(raw))).toBe(0)
  })

  it('in what -O says, with options; to a pipe; and the same each time', async () => {
    const image = folder.fresh('.disk')
    await seed(image, '-u', userData, '-O', 'vmdk', '-o', 'subformat=streamOptimized')
    const info = JSON.parse(await runOk('qemu-img', ['info', '--output=json', image]))
    expect(info['format-specific'].data['create-type']).toBe('streamOptimized')
    const raw = folder.fresh('.iso')
    await seed(raw, '-u', userData)
    const piped = folder.fresh('.iso')
    execFileSync('sh', ['-c', '"$0" seed - -u "$1" > "$2"', moraine, userData, piped], { env })
    expect(Buffer.compare(readFileSync(raw), readFileSync(piped))).toBe(0)
    expect(statSync(raw).size).toBeLessThan(80 * 1024)
  })
})

describe('seeds that are refused', () => {
  it.each([
    [
      'user-data of no kind',
      ['-u', file('a', 'packages: [htop]\n')],
      /begins as nothing that cloud-init knows[\s\S]*#cloud-config/,
    ],
    ['YAML with a fault', ['-u', file('b', '#cloud-config\na: [1, 2\nb: 3\n')], /is no YAML: .* at line 3/],
    ['a cloud-config that is a list', ['-u', file('c', '#cloud-config\n- a\n')], /is no mapping/],
    ['user-data that is no text', ['-u', file('d', Uint8Array.of(0x23, 0xff, 0xfe))], /is no text in UTF-8/],
    [
      'a private key',
      ['-k', file('e', '-----BEGIN OPENSSH PRIVATE KEY-----\n')],
      /is a private key, which must not leave/,
    ],
    ['a key that is none', ['-k', file('f', 'hello\n')], /has a line that is no public key: 'hello'/],
    ['no key at all', ['-k', file('g', '# none\n')], /has no public key/],
    ['a password for a script', ['--password', 'x', '-u', file('h', '#!/bin/sh\n')], /is no #cloud-config \(script\)/],
    [
      'a password that is there',
      ['--password', 'x', '-u', file('i', '#cloud-config\npassword: y\n')],
      /has 'password' already/,
    ],
    ['an empty password', ['--password', ''], /the password is empty/],
    [
      'a hash that cloud-init would take for a password',
      ['--password', '$y$j9T$abc$def'],
      /would take for the password itself/,
    ],
    ['two passwords', ['--password', 'a', '--password-file', '-'], /one too many/],
    ['a host of two words', ['-H', 'a b'], /'a b' is no name of a host/],
    [
      'a network of no version',
      ['-n', file('j', 'ethernets: {}\n')],
      /is no network configuration: version is undefined/,
    ],
    ['netplan on a config drive', ['--type', 'config-drive', '-n', network], /is no network data of OpenStack/],
    ['meta-data that is a list', ['-m', file('k', '- a\n')], /is no mapping/],
    [
      'YAML that swells',
      [
        '-m',
        file(
          'l',
          `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
            .split('')
            .map((name, at) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[at]}`)}]\n`)
            .join('')}`,
        ),
      ],
      /swell|alias/i,
    ],
    ['a file that is not there', ['-u', '/nowhere'], /Could not read '\/nowhere': No such file or directory\n/],
    ['a format that cannot be made', ['-O', 'dmg'], /dmg/],
    ['another type', ['--type', 'ec2'], /--type must be used with one of nocloud, config-drive/],
    ['another file system', ['--format', 'ntfs'], /--format must be used with one of iso, fat/],
  ] as const)('%s', async (_name, args, words) => {
    expect(await refusal(...args)).toMatch(words)
  })
})
