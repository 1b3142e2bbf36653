/** The images that generated command lines are about: small, made by QEMU's own tools, some damaged by hand. */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run, tool } from '../../../engine/test/support/process.ts'
import { secret } from './images.ts'

/** How the fixtures are made, in this order. `[file]` before a line of qemu-io commands, separated by `;`. */
const made = [
  'convert -f raw -O qcow2 a.raw q.qcow2',
  'convert -f raw -O qcow2 b.raw other.qcow2',
  'convert -f raw -O qcow2 -o compat=0.10 a.raw v2.qcow2',
  'convert -f raw -O qcow2 -o cluster_size=512 a.raw fine.qcow2',
  'convert -f raw -O qcow2 -o extended_l2=on,cluster_size=32k a.raw ext.qcow2',
  'convert -f raw -O qcow2 -o lazy_refcounts=on,refcount_bits=1 a.raw lazy.qcow2',
  'convert -f raw -O qcow2 -c a.raw packed.qcow2',
  'convert -f raw -O qcow2 -c -o compression_type=zstd a.raw zstd.qcow2',
  'create -q -f qcow2 -o data_file=df.data df.qcow2 1M',
  '[df.qcow2] write -P 3 64k 100k; write -z 512k 64k',
  'create -q -f qcow2 -o data_file=dr.data,data_file_raw=on dr.qcow2 1M',
  '[dr.qcow2] write -P 4 64k 100k',
  'create -q -f qcow2 empty.qcow2 1M',
  'create -q -f qcow2 zero.qcow2 0',
  'create -q -f qcow2 -o preallocation=metadata pre.qcow2 1M',
  'create -q -f qcow2 -b q.qcow2 -F qcow2 over.qcow2',
  '[over.qcow2] write -P 5 128k 10k; write -z 0 64k; write -P 6 900k 4k',
  'create -q -f qcow2 -b over.qcow2 -F qcow2 top.qcow2 1536k',
  '[top.qcow2] write -P 7 640k 64k; write -P 8 1200k 4k; discard 128k 64k',
  'create -q -f qcow2 -b a.raw -F raw onraw.qcow2',
  '[onraw.qcow2] write -P 9 0 4k',
  'create -q -f qcow2 -u -b gone.qcow2 -F qcow2 orphan.qcow2 1M',
  '[empty.qcow2] write -z 256k 128k',
  'create -q -f qcow2 snaps.qcow2 1M',
  '[snaps.qcow2] write -P 1 0 128k',
  'snapshot -c one snaps.qcow2',
  '[snaps.qcow2] write -P 2 64k 128k',
  'snapshot -c two snaps.qcow2',
  '[snaps.qcow2] write -P 3 512k 64k',
  'create -q -f qcow2 bits.qcow2 1M',
  'bitmap --add bits.qcow2 b0',
  'bitmap --add -g 4k bits.qcow2 b1',
  'bitmap --add --disable bits.qcow2 b2',
  '[bits.qcow2] write -P 1 64k 100k',
  'create -q -f qcow2 kept.qcow2 1M',
  'bitmap --add kept.qcow2 b0',
  '[kept.qcow2] write -P 1 64k 100k; write -z 256k 128k',
  'snapshot -c one kept.qcow2',
  'create -q -f qcow2 mixed.qcow2 1M',
  '[mixed.qcow2] write -P 110 482304 14336; write -P 148 496640 65536',
  'create -q -f qcow2 bits2.qcow2 1M',
  'bitmap --add bits2.qcow2 b0',
  '[bits2.qcow2] write -P 1 512k 10k',
  `create -q ${secret} -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 luks.qcow2 256k`,
  `convert -n ${secret} -f raw k.raw --target-image-opts driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2`,
  `convert ${secret} -f raw -O qcow2 -o encryption=on,encrypt.key-secret=s k.raw aes.qcow2`,
  `convert ${secret} -f raw -O luks -o key-secret=s,iter-time=10 k.raw k.luks`,
  `convert ${secret} -f raw -O qcow -o encrypt.format=aes,encrypt.key-secret=s k.raw aes.qcow`,
  'convert -f raw -O qcow a.raw q.qcow',
  'create -q -f qcow -b a.raw -F raw over.qcow',
  '[over.qcow] write -P 5 128k 10k',
  'convert -f raw -O qed a.raw q.qed',
  'create -q -f qed -b a.raw -F raw over.qed',
  '[over.qed] write -P 5 128k 10k; write -z 0 64k',
  'convert -f raw -O qed -o cluster_size=4k,table_size=2 b.raw fine.qed',
  'convert -f raw -O vmdk a.raw v.vmdk',
  'convert -f raw -O vmdk -o subformat=monolithicFlat a.raw flat.vmdk',
  'convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse a.raw split.vmdk',
  'convert -f raw -O vmdk -o subformat=twoGbMaxExtentFlat a.raw pieces.vmdk',
  'convert -f raw -O vmdk -o subformat=streamOptimized a.raw stream.vmdk',
  'create -q -f vmdk -o zeroed_grain=on zeroed.vmdk 1M',
  '[zeroed.vmdk] write -P 5 128k 10k; write -z 0 256k',
  'create -q -f vmdk -b v.vmdk -F vmdk over.vmdk',
  '[over.vmdk] write -P 5 128k 10k',
  'convert -f raw -O vdi a.raw d.vdi',
  'create -q -f vdi -o static=on static.vdi 1M',
  '[static.vdi] write -P 5 128k 10k',
  'convert -f raw -O vpc a.raw d.vpc',
  'convert -f raw -O vpc -o subformat=fixed,force_size=on a.raw fixed.vpc',
  'convert -f raw -O vhdx -o block_size=1M,log_size=1M a.raw d.vhdx',
  'convert -f raw -O parallels -o cluster_size=64k a.raw p.hds',
] as const

/** Makes all of it in an empty folder. */
export async function makeFixtures(folder: string): Promise<void> {
  const path = (name: string) => join(folder, name)
  writeRaw(folder)
  for (const line of made) await make(folder, line)
  mkdirSync(path('dir'))
  writeFileSync(path('text.txt'), 'This is no image.\n'.repeat(100))
  damage(folder)
}

function writeRaw(folder: string): void {
  const raw = Buffer.alloc(1 << 20)
  raw.fill('b', 65_536, 131_072)
  raw.fill('c', 200_000, 204_096)
  raw.fill('d', 786_432, 1_000_000)
  writeFileSync(join(folder, 'a.raw'), raw)
  raw.fill('e', 500_000, 500_512)
  writeFileSync(join(folder, 'b.raw'), raw)
  writeFileSync(join(folder, 'k.raw'), Buffer.alloc(262_144).fill('k', 4096, 70_000))
  writeFileSync(join(folder, 'odd.raw'), 'x'.repeat(1000))
  writeFileSync(join(folder, 'none.raw'), '')
}

async function make(folder: string, line: string): Promise<void> {
  const io = /^\[(.*?)\] (.*)$/.exec(line)
  const [name, args] = io
    ? ['qemu-io', [...(io[2] ?? '').split('; ').flatMap((command) => ['-c', command]), io[1] ?? '']]
    : ['qemu-img', line.split(' ')]
  for (let turn = 0; ; turn++) {
    const result = await run(tool(name).path ?? name, args, { cwd: folder })
    if (result.code === 0) return
    // On a busy machine key slots cannot be timed, by chance.
    if (turn > 100 || !result.stderr.includes('Unable to get accurate CPU usage')) {
      throw new Error(`${name} ${args.join(' ')}: ${result.stdout}${result.stderr}`)
    }
  }
}

function damage(folder: string): void {
  const path = (name: string) => join(folder, name)
  const damaged = (from: string, to: string, change: (bytes: Buffer) => void): void => {
    const bytes = readFileSync(path(from))
    change(bytes)
    writeFileSync(path(to), bytes)
  }
  const cut = (from: string, to: string, length: number): void => {
    damaged(from, to, () => {})
    truncateSync(path(to), length)
  }
  const l2Of = (bytes: Buffer) => entry(bytes, entry(bytes, 40, false))
  const dataEntry = (bytes: Buffer) => {
    let at = l2Of(bytes)
    while (entry(bytes, at) === 0) at += 8
    return at
  }
  const freeRefcount = (bytes: Buffer) => {
    const block = entry(bytes, entry(bytes, 48, false))
    bytes.writeUInt16BE(0, block + 2 * (entry(bytes, dataEntry(bytes)) / 65_536))
  }
  const forget = (bytes: Buffer) => bytes.fill(0, dataEntry(bytes), dataEntry(bytes) + 8)
  damaged('q.qcow2', 'leak.qcow2', forget)
  damaged('q.qcow2', 'corrupt.qcow2', freeRefcount)
  damaged('q.qcow2', 'both.qcow2', (bytes) => {
    freeRefcount(bytes)
    const kept = dataEntry(bytes)
    bytes.fill(0, kept + 8, kept + 64)
  })
  damaged('q.qcow2', 'version.qcow2', (bytes) => bytes.writeUInt32BE(4, 4))
  damaged('q.qcow2', 'feature.qcow2', (bytes) => bytes.writeUInt8(0x80, 72))
  damaged('lazy.qcow2', 'dirty.qcow2', (bytes) => bytes.writeUInt8(bytes.readUInt8(79) | 1, 79))
  damaged('q.qcow2', 'marked.qcow2', (bytes) => bytes.writeUInt8(bytes.readUInt8(79) | 2, 79))
  damaged('bits.qcow2', 'stale.qcow2', (bytes) => bytes.writeUInt8(bytes.readUInt8(95) & ~1, 95))
  damaged('q.qcow2', 'tables.qcow2', (bytes) => bytes.writeUInt32BE(0x7fff_ffff, 36))
  damaged('q.qcow2', 'cluster.qcow2', (bytes) => bytes.writeUInt32BE(40, 20))
  damaged('q.qed', 'check.qed', (bytes) => bytes.writeUInt8(bytes.readUInt8(16) | 2, 16))
  damaged('d.vpc', 'sum.vpc', (bytes) => bytes.writeUInt8(bytes.readUInt8(64) ^ 0xff, 64))
  damaged('p.hds', 'open.hds', (bytes) => bytes.writeUInt32LE(0x746f_6e59, 44))
  damaged('flat.vmdk', 'lone.vmdk', (bytes) => bytes.write('lone', bytes.indexOf('flat-flat')))
  for (const [from, length] of [
    ['q.qcow2', 300_000],
    ['q.qed', 300_000],
    ['v.vmdk', 100_000],
    ['d.vdi', 300_000],
    ['d.vpc', 1200],
    ['d.vhdx', 2_500_000],
    ['p.hds', 70_000],
  ] as const) {
    cut(from, `cut.${from.split('.')[1]}`, length)
  }
  for (const from of ['q.qcow2', 'q.qcow', 'q.qed', 'v.vmdk', 'd.vdi', 'd.vhdx', 'k.luks']) {
    cut(from, `stub.${from.split('.')[1]}`, 60)
  }
}

function entry(bytes: Buffer, at: number, masked = true): number {
  const value = bytes.readBigUInt64BE(at)
  return Number(masked ? value & 0x00ff_ffff_ffff_fe00n : value)
}
