/** tar archives by GNU tar and bsdtar-like hands: every dialect, sparse files, sizes past 8 GiB; and what strangers make of them. */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { allContainers, type ByteSource, isMoraineError, MemoryStore, openContainer, openMember } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { beforeAll, describe, expect, it } from 'vitest'
import { tarHeader } from '../../src/container/tar/write-header.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { Random, seed } from '../support/random.ts'

const folder = temporaryFolder()
const chance = seed('tar')
const MiB = 1024 * 1024

async function open(source: ByteSource) {
  const container = await openContainer(source, allContainers)
  if (container === undefined) throw new Error('no container')
  return container
}

async function contentOf(path: string, member?: string): Promise<Buffer> {
  const source = await openMember(await open(await openFile(path)), member)
  const bytes = Buffer.alloc(source.size)
  await source.read(0, bytes)
  await source.close()
  return bytes
}

describeWith(['tar'], 'tar as GNU tar writes it', () => {
  const long = `${'a'.repeat(120)}.txt`
  beforeAll(() => {
    const sparse = Buffer.alloc(8 * MiB)
    const random = new Random(chance)
    // More pieces than fit in a header and one further block.
    for (let index = 0; index < 40; index++) sparse.set(random.bytes(5000), index * 200_000)
    const file = openSync(folder.file('disk.raw'), 'w')
    for (let index = 0; index < 40; index++) writeSync(file, sparse, index * 200_000, 5000, index * 200_000)
    closeSync(file)
    truncateSync(folder.file('disk.raw'), sparse.length)
    writeFileSync(folder.file(long), 'long')
    writeFileSync(folder.file('empty'), '')
  })

  it.each([
    ['v7', ['--format=v7'], false],
    ['ustar', ['--format=ustar'], true],
    ['gnu', ['--format=gnu'], true],
    ['pax', ['--format=pax'], true],
    ['old GNU, sparse', ['--format=oldgnu', '-S'], true],
    ['GNU, sparse', ['--format=gnu', '-S'], true],
    ['pax 0.0, sparse', ['--format=pax', '-S', '--sparse-version=0.0'], true],
    ['pax 0.1, sparse', ['--format=pax', '-S', '--sparse-version=0.1'], true],
    ['pax 1.0, sparse', ['--format=pax', '-S', '--sparse-version=1.0'], true],
  ])('%s', async (_name, args, longNames) => {
    const archive = folder.fresh('.tar')
    const names = ['empty', 'disk.raw', ...(longNames && !args.includes('--format=ustar') ? [long] : [])]
    execFileSync('tar', [...args, '-C', folder.file('.'), '-cf', archive, ...names])
    expect((await contentOf(archive, 'disk1')).equals(readFileSync(folder.file('disk.raw')))).toBe(true)
    if (names.includes(long)) expect((await contentOf(archive, `./${long}`)).toString()).toBe('long')
    const container = await open(await openFile(archive))
    const listed = []
    for await (const { name, kind, size } of container.members()) listed.push({ name, kind, size })
    expect(listed.slice(0, 2)).toEqual([
      { name: 'empty', kind: 'file', size: 0 },
      { name: 'disk.raw', kind: 'disk', size: 8 * MiB },
    ])
    await container.close()
    if (!args.includes('-S')) return
    const member = await openMember(await open(await openFile(archive)), undefined)
    let holes = 0
    let end = 0
    for await (const batch of member.extents(0, member.size)) {
      for (const extent of batch) {
        expect(extent.offset).toBe(end)
        end += extent.length
        if (extent.zero) holes += extent.length
      }
    }
    expect(end).toBe(member.size)
    expect(holes).toBeGreaterThan(4 * MiB)
    await member.close()
  })

  it('reads headers that are written here, of members of more than 8 GiB too', () => {
    const size = 9 * 1024 ** 3
    const archive = folder.fresh('.tar')
    const file = openSync(archive, 'w')
    writeSync(file, tarHeader('huge.vmdk', size), 0, 512, 0)
    writeSync(file, tarHeader('é.txt', 3), 0, 512, 512 + size)
    writeSync(file, 'abc', 1024 + size)
    closeSync(file)
    truncateSync(archive, 512 + size + 1024 + 1024)
    const listed = execFileSync(
      'tar',
      ['--numeric-owner', '--full-time', '--utc', '--quoting-style=literal', '-tvf', archive],
      { encoding: 'utf8' },
    )
    expect(listed).toBe(
      '-rw-r--r-- 0/0      9663676416 1970-01-01 00:00:00 huge.vmdk\n-rw-r--r-- 0/0               3 1970-01-01 00:00:00 é.txt\n',
    )
    truncateSync(archive, 0)
  })

  it.each([['gnu'], ['pax']])('%s: a member of more than 8 GiB', async (format) => {
    const huge = folder.file('huge.img')
    writeFileSync(huge, 'begin')
    truncateSync(huge, 9 * 1024 ** 3)
    // Only the headers are made by tar; the zeros between them are a hole of the archive.
    const head = execFileSync(
      'sh',
      ['-c', `tar --format=${format} -C ${folder.file('.')} -cf - huge.img | head -c 2048`],
      { maxBuffer: MiB },
    )
    const archive = folder.fresh('.tar')
    writeFileSync(archive, head)
    truncateSync(archive, 9 * 1024 ** 3 + 4096)
    const source = await openMember(await open(await openFile(archive)), undefined)
    expect(source.size).toBe(9 * 1024 ** 3)
    const bytes = Buffer.alloc(5)
    await source.read(0, bytes)
    expect(bytes.toString()).toBe('begin')
    await source.close()
    truncateSync(huge, 0)
  })
})

/** One header with its checksum. */
function header(
  name: string,
  size: number | string | Uint8Array,
  type = '0',
  more: (block: Buffer) => void = () => {},
): Buffer {
  const block = Buffer.alloc(512)
  block.write(name, 0)
  block.write('0000644\0', 100)
  if (typeof size === 'object') block.set(size, 124)
  else block.write(typeof size === 'number' ? size.toString(8).padStart(11, '0') : size, 124)
  block.write('00000000000', 136)
  block.write(type, 156)
  block.write('ustar\x0000', 257)
  more(block)
  block.write('        ', 148)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

const pad = (text: string): Buffer => {
  const bytes = Buffer.alloc(Math.ceil(text.length / 512) * 512)
  bytes.write(text)
  return bytes
}
const end = Buffer.alloc(1024)
const pax = (text: string, type = 'x'): Buffer => Buffer.concat([header('pax', text.length, type), pad(text)])

async function failure(...parts: Buffer[]): Promise<string> {
  const store = new MemoryStore()
  await store.write(0, Buffer.concat(parts))
  try {
    const member = await openMember(await open(store), 'a.raw')
    await member.close()
  } catch (error) {
    if (isMoraineError(error)) return `${error.kind}: ${error.message}`
    throw error
  }
  return 'it was read'
}

describe('tar of strangers', () => {
  it.each([
    [
      'a member that passes the end',
      [header('a.raw', 1_000_000), end],
      /^corrupt: memory: the member 'a\.raw' passes the end/,
    ],
    ['a size in words', [header('a.raw', 'much'), end], /^corrupt: .*wrong size/],
    ['a negative size', [header('a.raw', Buffer.alloc(12, 255)), end], /^corrupt: .*wrong size.*negative/],
    [
      'a size past 2^53',
      [header('a.raw', Buffer.from([0x80, ...Buffer.alloc(11, 0x7f)])), end],
      /^corrupt: .*wrong size/,
    ],
    [
      'a damaged second header',
      [header('b', 0), Buffer.alloc(512, 7)],
      /^corrupt: .*header of the tar is damaged.*at byte 512/,
    ],
    ['an end in a block', [header('b', 0), Buffer.alloc(100)], /^corrupt: .*middle of a block/],
    ['a pax header without a member', [pax('12 path=abc\n'), end], /^corrupt: .*extended header, before its member/],
    ['a pax record without sense', [pax('99 path=abc\n'), header('a.raw', 0), end], /^corrupt: .*pax header.*damaged/],
    [
      'a pax size without sense',
      [pax('11 size=-1\n'), header('a.raw', 0), end],
      /^corrupt: .*wrong number.*size is -1/,
    ],
    ['a huge extended header', [header('L', 1_999_999, 'L'), end], /^limit: .*extended header/],
    [
      'sparse pieces one over another',
      [
        pax('22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n28 GNU.sparse.realsize=4096\n'),
        header('a.raw', 1024),
        pad('2\n0\n100\n50\n100\n'),
        pad('x'),
        end,
      ],
      /^corrupt: .*map of the sparse member.*no sense/,
    ],
    [
      'sparse pieces past the end',
      [
        header(
          'a.raw',
          512,
          'S',
          (block) => block.write('00000004000\0' + '00000001000\0', 386) && block.write('00000001000\0', 483),
        ),
        pad('x'),
        end,
      ],
      /^corrupt: .*map of the sparse member/,
    ],
    [
      'a sparse map that does not end',
      [pax('22 GNU.sparse.major=1\n28 GNU.sparse.realsize=4096\n'), header('a.raw', 512), pad('9\n1\n'), end],
      /^corrupt: .*map of a sparse file passes its end/,
    ],
    ['names twice', [header('a.raw', 0), header('a.raw', 0), end], /^invalid: .*2 members of the name 'a\.raw'/],
    [
      'a link for a file',
      [header('a.raw', 0, '2', (block) => block.write('/etc/passwd', 157)), end],
      /^unsupported: .*is a symlink/,
    ],
    ['a device', [header('a.raw', 0, '3'), end], /^unsupported: .*is a device/],
  ] as const)('%s', async (_what, parts, said) => {
    expect(await failure(...parts)).toMatch(said)
  })

  it('reads one that ends without blocks of zeros', async () => {
    expect(await failure(header('a.raw', 3), pad('abc'))).toBe('it was read')
  })
})
