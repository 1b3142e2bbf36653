/** Kernels and ramdisks: real ones beside what file, cpio and lsinitramfs say of them, written ones beside file, and hostile ones. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import {
  bootKindOf,
  describeGuest,
  describeRamdisk,
  type GuestContent,
  inspectSource,
  MemoryStore,
  StreamInspector,
  xzStream,
} from '@moraine/engine'
import { nodeStreamCodecs, openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { debianKernel } from '../support/debian.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, runOk, tool } from '../support/process.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'

const folder = temporaryFolder()
const codecs = { ...nodeStreamCodecs, xz: xzStream(() => import('@napi-rs/lzma')) }
const path = (name: string): string => tool(name).path ?? name

async function inMemory(bytes: Uint8Array): Promise<MemoryStore> {
  const store = new MemoryStore()
  await store.write(0, bytes)
  return store
}

async function only(bytes: Uint8Array): Promise<GuestContent | undefined> {
  return (await describeGuest(await inMemory(bytes), { codecs })).content[0]
}

/** A kernel of x86 with 5 setup sectors and a payload of gzip. */
function bzImage(bend?: (data: Buffer) => void): Buffer {
  const payload = gzipSync(Buffer.alloc(70_000, 'kernel'))
  const setup = 6 * 512
  const data = Buffer.alloc(setup + 4096 + payload.length)
  data.writeUInt8(5, 0x1f1)
  data.writeUInt32LE(Math.ceil((4096 + payload.length) / 16), 0x1f4)
  data.writeUInt16LE(0xaa55, 0x1fe)
  data.write('HdrS', 0x202)
  data.writeUInt16LE(0x020f, 0x206)
  data.writeUInt16LE(0x400, 0x20e)
  data.write('6.1.0-test (me@here) #1 SMP Debian 6.1\0', 0x600)
  data.writeUInt8(1, 0x211)
  data.writeUInt8(1, 0x234)
  data.writeUInt16LE(0x3, 0x236)
  data.writeUInt32LE(2047, 0x238)
  data.writeUInt32LE(1024, 0x248)
  data.writeUInt32LE(payload.length, 0x24c)
  payload.copy(data, setup + 1024)
  bend?.(data)
  return data
}

function arm64Image(): Buffer {
  const data = Buffer.alloc(8192)
  data.writeBigUInt64LE(0x80000n, 8)
  data.writeBigUInt64LE(0x1a0_0000n, 16)
  data.writeBigUInt64LE(0xan, 24)
  data.write('ARM\x64', 56)
  return data
}

/** An ELF file with one note of the owner. */
function elf(owner: string, type: number, text: string): Buffer {
  const data = Buffer.alloc(4096)
  data.write('\x7fELF\x02\x01\x01', 'latin1')
  data.writeUInt16LE(2, 16)
  data.writeUInt16LE(62, 18)
  data.writeUInt32LE(1, 20)
  data.writeBigUInt64LE(64n, 32)
  data.writeUInt16LE(64, 52)
  data.writeUInt16LE(56, 54)
  data.writeUInt16LE(1, 56)
  data.writeUInt32LE(4, 64)
  data.writeBigUInt64LE(1024n, 72)
  data.writeBigUInt64LE(64n, 96)
  data.writeUInt32LE(owner.length + 1, 1024)
  data.writeUInt32LE(text.length + 1, 1028)
  data.writeUInt32LE(type, 1032)
  data.write(owner, 1036)
  data.write(text, 1036 + Math.ceil((owner.length + 1) / 4) * 4)
  return data
}

/** One cpio member; `lie` overwrites fields by their index. */
function member(name: string, data: string | Buffer = '', mode = 0o100_755, lie: Record<number, string> = {}): Buffer {
  const content = Buffer.from(data)
  const fields = [1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0].map((value) =>
    value.toString(16).padStart(8, '0'),
  )
  for (const [index, text] of Object.entries(lie)) fields[Number(index)] = text
  const head = Buffer.from(`070701${fields.join('')}${name}\0`, 'latin1')
  const pad = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
  return Buffer.concat([pad(head), pad(content)])
}
const trailer = member('TRAILER!!!', '', 0)
const archive = (...members: Buffer[]): Buffer => Buffer.concat([...members, trailer])
const pad4 = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])

describe('kernels', () => {
  it.each([
    [
      'bzImage',
      bzImage(),
      {
        release: '6.1.0-test',
        architecture: 'x86_64',
        bootProtocol: '2.15',
        payload: 'gzip',
        unpackedSize: 70_000,
        xloadflags: ['64-bit entry', 'above 4 GiB'],
      },
    ],
    ['zImage', bzImage((data) => data.writeUInt8(0, 0x211)), { release: '6.1.0-test' }],
    ['Image', arm64Image(), { architecture: 'arm64', pageSize: 4096, kernelBytes: 0x1a0_0000, textOffset: 0x80000 }],
    ['Image', gzipSync(arm64Image()), { architecture: 'arm64', packing: 'gzip' }],
    ['Image', zstdCompressSync(arm64Image()), { architecture: 'arm64', packing: 'zstd' }],
    ['Xen kernel', elf('Xen', 6, 'linux'), { xenGuest: 'linux', architecture: 'x86_64' }],
    ['vmlinux', elf('Linux', 0x101, ''), { linux: true, bits: 64 }],
  ] as const)('%s (%#)', async (subformat, bytes, facts) => {
    const found = await only(bytes)
    expect([found?.kind, found?.subformat]).toEqual(['kernel', subformat])
    expect(found?.facts).toMatchObject(facts)
    expect(await bootKindOf(await inMemory(bytes))).toBe('kernel')
  })

  it('a program is no kernel of Linux', async () => {
    expect((await only(elf('GNU', 3, 'abcd')))?.kind).toBe('program')
  })

  it.each<[string, (data: Buffer) => void, Record<string, unknown>]>([
    ['a version outside of the setup code', (data) => data.writeUInt16LE(0xfff0, 0x20e), { bootProtocol: '2.15' }],
    ['a payload past the end', (data) => data.writeUInt32LE(0xffff_fff0, 0x24c), { cut: true }],
    ['a payload that begins past the end', (data) => data.writeUInt32LE(0xffff_fff0, 0x248), { payload: 'unknown' }],
    ['no setup sectors', (data) => data.writeUInt8(0, 0x1f1), { bootProtocol: '2.15' }],
    [
      'a size beyond all',
      (data) => data.writeUInt32LE(0xffff_ffff, 0x1f4),
      { kernelBytes: 6 * 512 + 0xffff_ffff * 16 },
    ],
    [
      'a version with control characters',
      (data) => data.write('\x1b[2J\r\n', 0x600),
      { release: '\ufffd[2J\ufffd\ufffdtest' },
    ],
  ])('a header that lies: %s', async (_what, bend, facts) => {
    expect((await only(bzImage(bend)))?.facts).toMatchObject(facts)
  })
})

describeWith(['file'], 'beside file', () => {
  it.each([
    ['bzImage', bzImage(), /Linux kernel x86 boot executable bzImage, version 6\.1\.0-test/],
    ['arm64 Image', arm64Image(), /Linux kernel ARM64 boot executable Image, little-endian, 4K pages/],
    ['archive', archive(member('init', 'x')), /ASCII cpio archive \(SVR4 with no CRC\)/],
  ])('%s', async (_what, bytes, said) => {
    const file = folder.fresh()
    writeFileSync(file, bytes)
    expect(await runOk(path('file'), ['-b', file])).toMatch(said)
  })

  // Its packages are not this machine's, so their list comes first: minutes that only a long run has.
  const isLong = budget(1) >= 5
  it.skipIf(!isLong)(
    `Debian's kernel for clouds of arm64${isLong ? '' : ' [skipped: only with MORAINE_BUDGET of 5 or more]'}`,
    { timeout: 600_000 },
    async (test) => {
      const kernel = debianKernel('arm64')
      if (kernel === undefined) return test.skip("Debian's kernel cannot be fetched")
      const found = (await describeGuest(await openFile(kernel.image))).content[0]
      expect(found).toMatchObject({
        kind: 'kernel',
        subformat: 'Image',
        facts: { architecture: 'arm64', endianness: 'little', pageSize: 4096, efiStub: true },
      })
      expect(await runOk(path('file'), ['-b', kernel.image])).toMatch(
        /Linux kernel ARM64 boot executable Image, little-endian, 4K pages/,
      )
      const packed = await describeGuest(await inMemory(gzipSync(readFileSync(kernel.image))))
      expect(packed.content[0]?.facts).toEqual({ ...found?.facts, packing: 'gzip' })
    },
  )

  it("Debian's kernel for clouds", { timeout: 300_000 }, async (test) => {
    const kernel = debianKernel()
    if (kernel === undefined) return test.skip("Debian's kernel cannot be fetched")
    const found = (await describeGuest(await openFile(kernel.image))).content[0]
    expect(found).toMatchObject({ kind: 'kernel', format: 'linux-kernel', subformat: 'bzImage' })
    expect(found?.facts).toMatchObject({
      release: kernel.release,
      architecture: 'x86_64',
      efiStub: true,
      relocatable: true,
    })
    const said = await runOk(path('file'), ['-b', kernel.image])
    expect(said).toContain(`version ${found?.facts.version},`)
    // Only what is behind the code (a signature, filling) may be more than the header says.
    expect(found?.facts.kernelBytes).toBeLessThanOrEqual(readFileSync(kernel.image).length)
    expect(found?.facts.cut).toBeUndefined()
  })
})

describeWith(['cpio', 'gzip', 'bzip2', 'xz', 'zstd', 'lz4', 'lzop', 'lsinitramfs'], 'ramdisks that tools make', () => {
  /** A small root, archived by cpio. */
  const tree = async (): Promise<{ plain: Buffer; names: string[] }> => {
    const root = folder.fresh('-root')
    mkdirSync(join(root, 'usr/lib/modules/6.1.0-test/kernel'), { recursive: true })
    mkdirSync(join(root, 'bin'))
    writeFileSync(join(root, 'usr/lib/modules/6.1.0-test/kernel/ext4.ko'), new Random(1).bytes(200_000))
    writeFileSync(join(root, 'bin/busybox'), new Random(2).bytes(300_001))
    symlinkSync('bin/busybox', join(root, 'init'))
    const plain = execFileSync('sh', ['-c', `find . | ${path('cpio')} -o -H newc --quiet`], {
      cwd: root,
      maxBuffer: 1 << 26,
    })
    const names = (await runOk('sh', ['-c', `${path('cpio')} -it --quiet < ${saved(plain)}`])).trim().split('\n')
    return { plain, names }
  }
  const saved = (bytes: Uint8Array): string => {
    const file = folder.fresh('.img')
    writeFileSync(file, bytes)
    return file
  }
  const microcode = pad4(
    archive(
      member('kernel', '', 0o40755),
      member('kernel/x86/microcode/AuthenticAMD.bin', 'x'.repeat(7777)),
      member('kernel/x86/microcode/GenuineIntel.bin', 'y'),
    ),
  )

  it.each([
    ['gzip', 'gzip', ['-9c']],
    ['bzip2', 'bzip2', ['-c']],
    ['xz', 'xz', ['--check=crc32', '-c']],
    ['lzma', 'xz', ['--format=lzma', '-c']],
    ['lzo', 'lzop', ['-9c']],
    ['zstd', 'zstd', ['-qc']],
    ['lz4', 'lz4', ['-lc']],
  ])('%s behind microcode', async (packing, command, args) => {
    const { plain, names } = await tree()
    const packed = execFileSync(path(command), args, { input: plain, maxBuffer: 1 << 26 })
    const file = saved(Buffer.concat([microcode, Buffer.alloc(512 - (microcode.length % 512)), packed]))
    const found = await describeRamdisk(await openFile(file), { codecs })
    const segments = found?.facts.segments as Record<string, unknown>[]
    expect(segments.map((segment) => segment.packing)).toEqual(['none', packing])
    expect(found?.facts.microcode).toEqual(['AuthenticAMD', 'GenuineIntel'])
    // .lzma and .lzo are looked at by their beginning only, as nothing here unpacks them whole.
    if (packing === 'lzma' || packing === 'lzo') {
      expect(segments[1]).toMatchObject({ complete: false, remark: 'only its beginning was looked at' })
      if (packing === 'lzo') expect(segments[1]).toMatchObject({ init: true, members: expect.any(Number) })
      return
    }
    expect(found?.facts).toMatchObject({ init: true, modules: ['6.1.0-test'] })
    expect(segments[1]).toMatchObject({ members: names.length, complete: true, contentBytes: 500_012 })
    expect(found?.facts.complete).toBe(true)
    const listed = (await runOk(path('lsinitramfs'), [file])).trim().split('\n')
    expect(listed).toEqual(expect.arrayContaining(['init', 'bin/busybox', 'usr/lib/modules/6.1.0-test/kernel/ext4.ko']))
    // One pass and a file say the same, and see the microcode.
    const inspector = new StreamInspector()
    inspector.push(readFileSync(file))
    const inspected = await inspectSource(await openFile(file))
    expect(inspector.end()).toEqual(inspected)
    expect(inspected.findings.find(({ format }) => format === 'cpio')?.facts.microcode).toEqual([
      'AuthenticAMD',
      'GenuineIntel',
    ])
  })

  it('many segments, packed and not, in a row', async () => {
    const { plain } = await tree()
    const zip = (command: string, ...args: string[]) =>
      execFileSync(path(command), args, { input: plain, maxBuffer: 1 << 26 })
    const all = [
      microcode,
      zip('gzip', '-c'),
      microcode,
      zip('zstd', '-qc'),
      zip('lz4', '-lc'),
      Buffer.alloc(700),
      microcode,
      plain,
      zip('bzip2', '-c'),
    ]
    const found = await describeRamdisk(await inMemory(Buffer.concat(all.map(pad4))), { codecs })
    const segments = found?.facts.segments as Record<string, unknown>[]
    // Archives that are not packed and stand in a row are one segment.
    expect(segments.map(({ packing }) => packing)).toEqual(['none', 'gzip', 'none', 'zstd', 'lz4', 'none', 'bzip2'])
    expect([found?.facts.complete, segments.every(({ complete }) => complete)]).toEqual([true, true])
  })
})

describe('ramdisks that lie', () => {
  const good = member('init', 'x')
  it.each<[string, Buffer, RegExp]>([
    [
      'a size past the end',
      archive(good, member('a', 'data', 0o100_644, { 6: '7fffffff' })),
      /"a" says 2147483647 bytes, and the archive ends before/,
    ],
    ['a size with a sign', archive(good, member('a', '', 0o100_644, { 6: '-0000001' })), /something else than digits/],
    ['a name without an end', archive(good, member('a', '', 0, { 11: '00000001' })), /a name has no end/],
    ['a name of nothing', archive(good, member('a', '', 0, { 11: '00000000' })), /a name of 0 bytes; rule: 1 to 4096/],
    ['a name longer than names are', archive(good, member('a', '', 0, { 11: '00100000' })), /a name of 1048576 bytes/],
    ['a header that is cut', Buffer.concat([good, good.subarray(0, 60)]), /a header is cut/],
    ['rubbish behind the end', Buffer.concat([archive(good), Buffer.from('rubbish')]), /neither an archive nor packed/],
    [
      'a packed stream that is cut',
      Buffer.concat([
        archive(good),
        gzipSync(archive(member('b', new Random(3).bytes(99_999) as Buffer))).subarray(0, 50_000),
      ]),
      /ends early/,
    ],
    [
      'a packed stream of something else',
      Buffer.concat([archive(good), gzipSync(Buffer.alloc(5000, 'x'))]),
      /it holds no archive/,
    ],
  ])('%s', async (_what, bytes, remark) => {
    const found = await describeRamdisk(await inMemory(bytes), { codecs })
    expect(JSON.stringify(found?.facts.segments).replaceAll('\\"', '"')).toMatch(remark)
    expect(found?.facts.complete).toBe(false)
  })

  it('a name that leaves the root is told', async () => {
    const found = await only(archive(member('../../etc/passwd', 'x'), good))
    expect(found?.facts.segments).toMatchObject([{ outside: '../../etc/passwd', init: true }])
  })

  it('a bomb is left where the bound is', async () => {
    const bomb = gzipSync(Buffer.concat([member('zeros', Buffer.alloc(40 * 1024 * 1024)), trailer]))
    const found = await describeRamdisk(await inMemory(Buffer.concat([archive(good), bomb])), {
      codecs,
      mostUnpacked: 8 * 1024 * 1024,
    })
    expect(JSON.stringify(found?.facts.segments)).toMatch(/unpacks to more than the 8388608 bytes/)
    expect(await only(bomb)).toMatchObject({ kind: 'ramdisk', facts: { complete: true, init: false } })
  })

  it('archives without an end cost no more than what is there', async () => {
    const many = Buffer.concat(Array.from({ length: 3000 }, (_, index) => member(`file${index}`)))
    const found = await describeRamdisk(await inMemory(many), { codecs })
    expect(found?.facts.segments).toMatchObject([{ members: 3000, complete: true }])
    // A look alone sees the first thousand.
    const { findings } = await inspectSource(await inMemory(many))
    expect(findings.find(({ format }) => format === 'cpio')?.facts).toMatchObject({
      complete: false,
      init: 'not seen yet',
    })
  })

  it('any change is survived, and looked at in the same way from both sides', { timeout: timeFor(3000) }, async () => {
    const random = new Random(seed('boot files'))
    const samples = [
      bzImage(),
      arm64Image(),
      elf('Xen', 6, 'linux'),
      archive(good, member('kernel/x86/microcode/GenuineIntel.bin', 'x')),
      Buffer.concat([pad4(archive(good)), gzipSync(archive(good))]),
      Buffer.concat([pad4(archive(good)), zstdCompressSync(archive(good)), Buffer.alloc(9), archive(good)]),
    ]
    const end = Date.now() + budget(3000)
    let count = 0
    for (; Date.now() < end || count < 50; count++) {
      const bytes = Buffer.from(random.pick(samples)).subarray(0, random.bool(0.8) ? undefined : random.int(0, 600))
      for (let changes = random.int(1, 8); changes > 0 && bytes.length > 0; changes--)
        bytes[random.int(0, Math.min(bytes.length, 700) - 1)] = random.int(0, 255)
      const store = await inMemory(bytes)
      await describeGuest(store, { codecs })
      await bootKindOf(store)
      const inspector = new StreamInspector()
      inspector.push(bytes)
      expect(inspector.end()).toEqual(await inspectSource(store))
    }
    console.info(`${count} boot files`)
  })
})
