/** Lines of the verbs that only read: info, check, map, measure, compare, snapshot -l. */
import { all, cover } from '../cover.ts'
import { encrypted, formats, images, secret, wrong } from '../images.ts'

const good = Object.keys(images)
const bad = Object.keys(wrong)
const locked = Object.keys(encrypted)

/** The file with its own format said, or another one, or none. */
function named(files: Readonly<Record<string, string>>, option = '-f'): string[] {
  const others = ['raw', 'qcow2', 'vmdk', 'nope']
  return Object.entries(files).flatMap(([file, format], at) => [
    file,
    `${option} ${format} ${file}`,
    `${option} ${others[at % others.length]} ${file}`,
  ])
}

/** An encrypted image with its password, as a string of options. */
export function unlocked(file: string): string {
  const format = encrypted[file] ?? 'qcow2'
  const prefix = format === 'luks' ? '' : 'encrypt.'
  return `${secret} --image-opts driver=${format},${prefix}key-secret=s,file.filename=${file}`
}

const opened = [
  ...locked.map(unlocked),
  '--image-opts driver=qcow2,file.filename=q.qcow2',
  '--image-opts file.driver=file,file.filename=q.qcow2',
  '--image-opts driver=raw,offset=64k,size=128k,file.filename=a.raw',
  '--image-opts driver=qcow2,file.driver=file,file.filename=over.qcow2,backing.driver=qcow2,backing.file.filename=other.qcow2',
  '--image-opts driver=null-co,size=1M',
  '\'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}\'',
  '\'json:{"driver":"raw","file.driver":"file","file.filename":"a.raw","size":65536}\'',
  '\'json:{"driver":"nope"}\'',
  '\'json:{"driver":"qcow2","file":"nope"}\'',
  "'json:{'",
  '--image-opts driver=qcow2',
  '--image-opts driver=qcow2,file.filename=q.qcow2,nope=1',
  '--image-opts driver=nope,file.filename=q.qcow2',
  '--image-opts q.qcow2',
  '--image-opts ,',
  "--image-opts ''",
  '--image-opts driver=qcow2,file.filename=absent.img',
  '--image-opts driver=qcow2,file.filename=q.qcow2,lazy-refcounts=maybe',
  '--image-opts driver=qcow2,file.filename=q.qcow2,l2-cache-size=1',
  '--image-opts driver=qcow2,file.filename=q.qcow2,overlap-check=nope',
  '--image-opts driver=qcow2,file.filename=q.qcow2,backing=nope',
  '--image-opts driver=vmdk,file.filename=q.qcow2',
  '--image-opts driver=raw,offset=3,size=1M,file.filename=a.raw',
  '--image-opts driver=raw,offset=2M,file.filename=a.raw',
  `${secret} --image-opts driver=qcow2,encrypt.key-secret=t,file.filename=luks.qcow2`,
  `--object secret,id=s,data=wrong --image-opts driver=luks,key-secret=s,file.filename=k.luks`,
  `--object secret,id=s,data=wrong --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2`,
  `--object secret,id=s,file=absent.img --image-opts driver=luks,key-secret=s,file.filename=k.luks`,
  '--object secret,id=s k.luks',
  '--object help',
  '--object secret_keyring,id=s,serial=-2147483648 k.luks',
  '--object authz-list,id=s,rules.0.match=x,rules.0.policy=allow a.raw',
  '--object authz-list,id=s,rules.1.match=x,rules.1.policy=allow a.raw',
  '--object nope,id=s k.luks',
  '--object secret,data=x k.luks',
  '--image-opts driver=qcow2,file.filename=q.qcow2,lazy-refcounts=yes,force-share=true',
  '--image-opts driver=qcow2,read-only,file.filename=q.qcow2',
  '--image-opts driver=qcow2,file.filename=q.qed,nope=1',
  '--image-opts driver=qcow2,file.filename=q.qcow2/',
  '--image-opts driver=qcow2,file.filename=q.qcow2,detect-zeroes=unmap',
  '--image-opts driver=raw,offset=8E,file.filename=a.raw',
  '--image-opts driver=raw,size=7E,file.filename=a.raw',
  '--image-opts driver=raw,file.filename=/dev/null',
  '--image-opts driver=file,filename=/dev/null',
  '--image-opts driver=preallocate,file.driver=file,file.filename=a.raw,prealloc-align=3',
  '--image-opts driver=blkdebug,image.driver=file,image.filename=a.raw,align=3',
  '--image-opts driver=compress,file.driver=qcow2,file.file.filename=snaps.qcow2',
  '\'json:{"driver":"qcow2","detect-zeroes":true,"file.filename":"q.qcow2"}\'',
  '\'json:{"driver":1}\'',
  'file:q.qcow2',
  'file:co:lon.raw',
  '/dev/null',
  'nope:q.qcow2',
  './q.qcow2',
  'dir/../q.qcow2',
  'q.qcow2/x',
]

const json = ['', '--output=json', '--output=human']

export function infoLines(): string[] {
  return [
    ...all([['info'], ['', '--output=json'], [...good, ...bad, ...locked, ...opened]]),
    ...cover(170, [
      ['info'],
      [...json, '--output nope'],
      ['', '-U', '--force-share'],
      ['', '--backing-chain'],
      [...named(images), ...named(encrypted), ...named(wrong)],
    ]),
  ]
}

export function checkLines(): string[] {
  return [
    ...all([['check'], [...good, ...bad, ...locked, ...opened]]),
    ...all([
      ['check', 'check -r leaks', 'check -r all'],
      ['stale.qcow2', 'kept.qcow2'],
    ]),
    ...cover(220, [
      ['check'],
      ['', '-q'],
      [...json, '--output=nope'],
      ['', '', '-U'],
      ['', '', '-T none', '-T writeback', '-T unsafe', '-T nope'],
      ['', '', '', '-r leaks', '-r all', '--repair=all', '-r nope'],
      [...named(images), ...named(wrong), ...bad, ...bad],
    ]),
  ]
}

const places = ['0', '64k', '65535', '100000', '512', '1M', '2M', '1.5k', '1K', '0x10000']
const badNumbers = ['x', '-1', '1Z', '9E', '16E', "''", '1e3', '.', '+5', '1.5.5', '3kB', "' 7'", '0x', 'nan']

export function mapLines(): string[] {
  return [
    ...all([['map'], ['', '--output=json'], [...good, ...locked, ...opened]]),
    ...all([['map'], ['', '--output=json'], bad]),
    ...cover(150, [
      ['map'],
      ['', '--output=json', '--output=json'],
      ['', '-U'],
      ['', ...places.map((place) => `-s ${place}`), '--start-offset=70000'],
      ['', ...places.map((place) => `-l ${place}`), '--max-length 70000'],
      [...named(images), ...opened.slice(0, 8)],
    ]),
    ...all([['map'], ['-s', '-l'], badNumbers, ['q.qcow2']]),
    ...all([
      ['map --output=nope', 'map -z', 'map -s', 'map'],
      ['', 'q.qcow2 q.qcow2', 'absent.img'],
    ]),
  ]
}

const measured = [
  'raw',
  'qcow2',
  'qcow2 -o cluster_size=512',
  'qcow2 -o cluster_size=2M',
  'qcow2 -o refcount_bits=1,cluster_size=4k',
  'qcow2 -o refcount_bits=64',
  'qcow2 -o extended_l2=on,cluster_size=64k',
  'qcow2 -o preallocation=full',
  'qcow2 -o preallocation=metadata',
  'qcow2 -o compat=0.10',
  'qcow2 -o data_file=x',
  'qcow2 -o backing_file=q.qcow2,backing_fmt=qcow2',
  'qcow2 -o nope=1',
  'qcow2 -o cluster_size=3',
  'qcow2 -o size=3M',
  'qcow2 -o compat=nope',
  'qcow2 -o refcount_bits=3',
  'qcow2 -o preallocation=nope',
  'qcow',
  'qed',
  'vmdk',
  'vdi',
  'vpc',
  'vhdx',
  'parallels',
  'nope',
  'nbd',
]

export function measureLines(): string[] {
  const sizes = ['0', '1', '512', '1000', '1M', '3G', '1T', '1P', '8388607T', '64k']
  return [
    ...all([['measure'], ['-O'], measured, ['--size 1M', '--size=1000', 'a.raw', 'over.qcow2']]),
    ...cover(110, [
      ['measure'],
      json,
      ['', '-U'],
      ['', '-O raw', ...formats.slice(0, 9).map((format) => `-O ${format}`), '-O qcow2', '-O qcow2 -o cluster_size=4k'],
      [...named(images), ...sizes.map((size) => `--size ${size}`)],
    ]),
    ...cover(60, [['measure'], ['', '-O qcow2'], [...locked, ...bad, ...opened]]),
    ...all([
      ['measure -O'],
      [
        ...['compression_type=lz4', 'lazy_refcounts=on,compat=0.10', 'data_file_raw=on', 'encrypt.key-secret=s'].map(
          (option) => `qcow2 -o ${option}`,
        ),
        ...['encrypt.format=x', 'encrypt.format=aes', 'encrypt.format=luks', 'extent_size_hint=8G'].map(
          (option) => `qcow2 -o ${option}`,
        ),
        'raw -o preallocation=metadata',
        'raw -o preallocation=nope',
        'vhdx -o preallocation=metadata',
        'bochs',
        'bochs -o nope=1',
      ],
      ['--size 1M', 'a.raw'],
    ]),
    ...all([['measure -f'], [...formats, 'bochs', 'cloop'], ['a.raw', 'q.qcow2', 'text.txt', 'none.raw']]),
    ...all([['measure --size'], badNumbers]),
    ...all([
      ['measure'],
      ['-O qcow2', '-O raw', ''],
      ['-l one', '-l two', '-l nope', '-l snapshot.name=one', '-l snapshot.id=2', '-l snapshot.foo=1'],
      ['snaps.qcow2'],
    ]),
    ...all([
      ['measure'],
      ['', '--size 1M a.raw', '-l one', '-l one --size 1M', '-o help', '-O qcow2 -o help', '--output=nope --size 1M'],
      ['', '-f raw', '--image-opts'],
    ]),
  ]
}

export function compareLines(): string[] {
  const first = ['q.qcow2', 'a.raw', 'v2.qcow2', 'over.qcow2', 'odd.raw', 'none.raw', 'empty.qcow2', 'v.vmdk', 'd.vhdx']
  return [
    ...all([['compare a.raw'], [...good, ...bad]]),
    ...all([['compare -s q.qcow2'], good]),
    ...cover(170, [
      ['compare'],
      ['', '', '-s'],
      ['', '', '-p', '-q'],
      ['', '-U'],
      ['', '', '-T none', '-T unsafe', '-T nope'],
      ['', '', '-f raw', '-f qcow2', '-f nope'],
      ['', '', '-F raw', '-F qcow2', '-F nope'],
      first,
      [...good, ...bad.slice(0, 6), 'k.luks'],
    ]),
    ...all([
      ['compare'],
      ['', 'a.raw', 'a.raw b.raw q.qcow2', '-z a.raw b.raw', '-f', '--nope a.raw b.raw', '-s -q a.raw b.raw', '-h'],
    ]),
    ...all([['compare'], opened.slice(0, 12), ['q.qcow2']]),
    ...all([
      ['compare --image-opts driver=raw,file.filename=a.raw'],
      [...good, ...bad].map((file) => `driver=${images[file] ?? wrong[file]},file.filename=${file}`),
    ]),
  ]
}
