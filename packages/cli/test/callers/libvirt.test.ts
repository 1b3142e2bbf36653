/** libvirt's storage driver with our command in the place of qemu-img: a daemon of its own in a session of its own, with the storage and secret drivers alone. Debian's libvirt-daemon and libvirt-clients. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { describeWith, run, tool } from '../../../engine/test/support/process.ts'
import { isWholeRun } from '../../../engine/test/support/random.ts'
import { words } from '../support/differential.ts'
import { type Run, sameForCaller, withImages } from './rig.ts'

const drivers = '/usr/lib/x86_64-linux-gnu/libvirt/connection-driver'
const secretId = '0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f'

/** A daemon, and a shell that talks to it. */
interface Daemon {
  virsh(...args: string[]): Promise<string>
  stop(): Promise<void>
}

/** As nobody in particular: root would get the machine's own daemon, with its folders. */
const asUser = process.getuid?.() === 0 ? ['unshare', '--user', '--map-user=1000', '--map-group=1000'] : []

async function startDaemon({ folder, env }: Run): Promise<Daemon> {
  // Sockets have short names.
  const state = join(folder, 'v')
  for (const name of ['run', 'config', 'cache', 'data', 'drivers', 'pool'])
    mkdirSync(join(state, name), { recursive: true })
  for (const name of ['storage', 'secret']) {
    symlinkSync(join(drivers, `libvirt_driver_${name}.so`), join(state, 'drivers', `libvirt_driver_${name}.so`))
  }
  writeFileSync(join(state, 'libvirtd.conf'), 'log_outputs="3:stderr"\n')
  const own = {
    ...env,
    LIBVIRT_DRIVER_DIR: join(state, 'drivers'),
    XDG_RUNTIME_DIR: join(state, 'run'),
    XDG_CONFIG_HOME: join(state, 'config'),
    XDG_CACHE_HOME: join(state, 'cache'),
    XDG_DATA_HOME: join(state, 'data'),
  }
  const inSession = (program: string, args: string[]): [string, string[]] => {
    const [first = program, ...rest] = [...asUser, tool(program).path ?? program, ...args]
    return [first, rest]
  }
  const [program, args] = inSession('libvirtd', ['-f', join(state, 'libvirtd.conf'), '-p', join(state, 'pid')])
  const daemon: ChildProcess = spawn(program, args, { cwd: folder, env: own, stdio: 'ignore' })
  const ended = new Promise((done) => daemon.once('exit', done))
  const stop = async () => {
    daemon.kill('SIGTERM')
    const timer = setTimeout(() => daemon.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(timer)
  }
  const socket = join(state, 'run/libvirt/libvirt-sock')
  for (let wait = 0; !existsSync(socket); wait++) {
    if (wait > 200 || daemon.exitCode !== null) {
      await stop()
      throw new Error('libvirtd does not answer')
    }
    await new Promise((done) => setTimeout(done, 50))
  }
  const virsh = async (...given: string[]) => {
    const kind = given[0]?.startsWith('secret') === true ? 'secret' : 'storage'
    const [shell, all] = inSession('virsh', ['-q', '-c', `${kind}:///session`, ...given])
    const { code, stdout, stderr } = await run(shell, all, { cwd: folder, env: own })
    return `$ ${given.join(' ')}\n${stdout}${stderr}= ${code}\n`
  }
  return { virsh, stop }
}

const encryption = `<encryption format='luks'><secret type='passphrase' uuid='${secretId}'/></encryption>`
const cipher = `<encryption format='luks'><secret type='passphrase' uuid='${secretId}'/><cipher name='aes' size='256' mode='cbc' hash='sha256'/><ivgen name='essiv' hash='sha256'/></encryption>`

function volume(name: string, format: string, more = '', backing = ''): string {
  const target = `<target><format type='${format}'/>${more}</target>`
  return `<volume><name>${name}</name><capacity unit='M'>8</capacity>${target}${backing}</volume>`
}

/** A new password takes its two seconds of the processor, each time. */

/** Lines for virsh, and volumes that are described in XML, some of them copies of others. */
function script(pool: string): (string | { xml: string; from?: string })[] {
  return [
    `pool-define-as p dir --target ${pool}`,
    'pool-start p',
    ...['raw', 'qcow', 'qcow2', 'qed', 'vmdk', 'vpc', 'vdi', 'bochs', 'dmg', 'iso', 'cow'].map(
      (format) => `vol-create-as p ${format}.img 64M --format ${format}`,
    ),
    'vol-create-as p reserved.qcow2 16M --format qcow2 --prealloc-metadata',
    'vol-create-as p taken.qcow2 16M --allocation 16M --format qcow2',
    'vol-create-as p odd.qcow2 1000001B --format qcow2',
    'vol-create-as p none.qcow2 0 --format qcow2',
    'vol-create-as p huge.qcow2 8P --format qcow2',
    "vol-create-as p 'a,b c.qcow2' 1M --format qcow2",
    "vol-create-as p 'on,top.qcow2' 1M --format qcow2 --backing-vol 'a,b c.qcow2' --backing-vol-format qcow2",
    'vol-create-as p up.qcow2 8M --format qcow2',
    'vol-upload up.qcow2 is-data.qcow2 --pool p',
    'vol-create-as p up.raw 6M --format raw',
    'vol-upload up.raw is-data.raw --pool p',
    'vol-create-as p over.qcow2 64M --format qcow2 --backing-vol up.qcow2 --backing-vol-format qcow2',
    `vol-create-as p over-raw.qcow2 64M --format qcow2 --backing-vol ${pool}/up.raw --backing-vol-format raw`,
    'vol-create-as p over.qed 64M --format qed --backing-vol up.qcow2 --backing-vol-format qcow2',
    'vol-create-as p over.vmdk 64M --format vmdk --backing-vol up.raw --backing-vol-format raw',
    ...['up.qcow2', 'up.raw', 'over.qcow2', 'vmdk.img', 'vdi.img', 'vpc.img', 'qed.img'].map(
      (name) => `vol-clone ${name} clone-of-${name} --pool p`,
    ),
    'vol-clone up.qcow2 reserved-clone.qcow2 --pool p --prealloc-metadata',
    ...['raw', 'qcow2', 'qed', 'vmdk', 'vpc', 'vdi'].flatMap((format) => [
      { xml: volume(`to-${format}`, format), from: 'up.qcow2' },
      { xml: volume(`back-${format}`, 'qcow2'), from: `to-${format}` },
    ]),
    { xml: volume('old', 'qcow2', '<compat>0.10</compat><nocow/>') },
    {
      xml: volume(
        'new',
        'qcow2',
        "<compat>1.1</compat><clusterSize unit='KiB'>128</clusterSize><features><lazy_refcounts/><extended_l2/></features>",
      ),
    },
    {
      xml: volume(
        'on',
        'qcow2',
        "<compat>1.1</compat><clusterSize unit='B'>4096</clusterSize><features><lazy_refcounts/></features>",
        `<backingStore><path>${pool}/up.qcow2</path><format type='qcow2'/></backingStore>`,
      ),
    },
    'vol-clone on clone-of-on --pool p',
    ...(isWholeRun ? [{ xml: volume('secret.raw', 'raw', encryption), from: 'up.raw' }] : []),
    { xml: volume('secret.qcow2', 'qcow2', cipher), from: 'up.raw' },
    { xml: volume('clear', 'raw'), from: 'secret.qcow2' },
    ...(isWholeRun ? ['vol-resize secret.raw 16M --pool p'] : []),
    ...['raw', 'qcow2', 'qed', 'vmdk'].flatMap((format) => [
      `vol-resize ${format}.img 128M --pool p`,
      `vol-resize ${format}.img 32M --shrink --pool p`,
    ]),
    'vol-resize up.qcow2 1M --delta --pool p',
    'vol-resize over.qcow2 96M --pool p',
    'pool-refresh p',
    'vol-list p',
    ...['up.qcow2', 'over.qcow2', 'on', 'new', 'vmdk.img', 'secret.qcow2'].map(
      (name) => `vol-dumpxml ${name} --pool p`,
    ),
    'vol-delete over.qcow2 --pool p',
  ]
}

/** What a volume takes of the file system is not the program's alone to say, nor when. */
const masks: readonly [RegExp, string][] = [
  [/\.secret\.\w{6}/g, '.secret.…'],
  [/<(allocation|physical)[^\n]*\n/g, ''],
  [/<[amc]time>[^\n]*\n/g, ''],
  [/<uuid>[^\n]*\n/g, ''],
]

async function drive(session: Run): Promise<string> {
  const daemon = await startDaemon(session)
  const pool = join(session.folder, 'v/pool')
  const xml = join(session.folder, 'v/volume.xml')
  let said = ''
  try {
    writeFileSync(xml, `<secret ephemeral='no' private='no'><uuid>${secretId}</uuid></secret>`)
    said += await daemon.virsh('secret-define', xml)
    writeFileSync(join(session.folder, 'v/password'), 'horse')
    said += await daemon.virsh('secret-set-value', secretId, '--file', join(session.folder, 'v/password'), '--plain')
    for (const line of script(pool)) {
      if (typeof line === 'string') said += await daemon.virsh(...words(line))
      else {
        writeFileSync(xml, line.xml)
        const how = line.from === undefined ? ['vol-create'] : ['vol-create-from']
        const from = line.from === undefined ? [] : [line.from, '--inputpool', 'p']
        said += line.xml + (await daemon.virsh(...how, 'p', xml, ...from))
      }
    }
  } finally {
    await daemon.stop()
  }
  return said
}

describeWith(['qemu-img', 'libvirtd', 'virsh', 'unshare'], 'libvirt', () => {
  it('makes, clones, encrypts and resizes volumes as with the real one', { timeout: 300_000 }, async () => {
    const { said, calls } = await sameForCaller(await withImages(), drive, {
      masks,
      // Behind what was copied nothing was written.
      noise: ['v/pool/secret.raw', 'v/pool/secret.qcow2'],
      ignored: /^v\/(run|config|cache|data|drivers|pid|password|[a-z]+\.(xml|conf))/,
    })
    expect(said.match(/^= 0$/gm)?.length ?? 0).toBeGreaterThan(60)
    expect(calls.length).toBeGreaterThan(50)
  })
})
