/** A GPT on a disk that a preset or `resize --move-gpt` makes longer: its second header moves to the new end, as sgdisk moves it, and only where it was sound. */
import { closeSync, copyFileSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run, runOk, tool } from '../../engine/test/support/process.ts'
import { qemuImg } from '../../engine/test/support/qemu.ts'
import { moraine } from './support/differential.ts'

const MiB = 1 << 20
const path = (name: string): string => tool(name).path ?? ''

describeWith(['qemu-img', 'sfdisk', 'sgdisk'], 'a GPT at a new end', () => {
  const folder = temporaryFolder()

  /** A disk of `bytes`, no whole MiB, with two partitions that hold something. */
  async function disk(maker: 'sfdisk' | 'sgdisk', bytes = 10 * MiB + 37 * 512): Promise<string> {
    const file = folder.fresh('.raw')
    writeFileSync(file, '')
    truncateSync(file, bytes)
    if (maker === 'sgdisk') await runOk(path('sgdisk'), ['-n', '1:2048:+4M', '-n', '2:0:+2M', file])
    else await runOk(path('sfdisk'), ['-q', file], { input: 'label: gpt\nsize=4MiB\nsize=2MiB\n' })
    change(file, MiB, Buffer.alloc(3 * MiB, 7))
    return file
  }

  function change(file: string, at: number, bytes: Uint8Array): void {
    const descriptor = openSync(file, 'r+')
    writeSync(descriptor, bytes, 0, bytes.length, at)
    closeSync(descriptor)
  }

  /** What the preset made of a disk, as raw bytes, and what was said of the GPT. */
  async function converted(source: string, target = 'azure', format = 'vpc'): Promise<{ file: string; said: string }> {
    const image = folder.fresh('.img')
    const { code, stderr } = await run(moraine, ['convert', '--for', target, source, image])
    expect(code, stderr).toBe(0)
    const file = folder.fresh('.raw')
    await qemuImg('convert', '-f', format, '-O', 'raw', image, file)
    const said = stderr.split('\n').filter((line) => line.includes('GPT'))
    return { file, said: said.join('\n') }
  }

  it.each([
    ['sfdisk', 'azure', 'vpc'],
    ['sfdisk', 'esxi', 'vmdk'],
    ['sgdisk', 'xen', 'vpc'],
  ] as const)('made by %s, for %s', async (maker, target, format) => {
    const source = await disk(maker)
    const { file, said } = await converted(source, target, format)
    expect(said).toContain('the second header of the GPT is moved to the new end')
    expect(await runOk(path('sgdisk'), ['-v', file])).toContain('No problems found.')
    const verified = await run(path('sfdisk'), ['--verify', file])
    expect([verified.code, verified.stderr]).toEqual([0, ''])
    const [before, after] = await Promise.all(
      [source, file].map(async (name) => JSON.parse(await runOk(path('sfdisk'), ['-J', name])).partitiontable),
    )
    expect(after.lastlba).toBe(readFileSync(file).length / 512 - 34)
    const plain = (table: { partitions: object[] }) =>
      table.partitions.map((partition) => ({ ...partition, node: undefined }))
    expect([after.id, plain(after)]).toEqual([before.id, plain(before)])
    // Between the two ends nothing else has changed.
    const [old, now] = [readFileSync(source), readFileSync(file)]
    expect(now.subarray(1024, old.length).equals(old.subarray(1024))).toBe(true)
  })

  it('is as sgdisk makes it, byte for byte, save for cylinders and heads that nobody reads', async () => {
    const source = await disk('sgdisk')
    const { file } = await converted(source)
    const theirs = folder.fresh('.raw')
    copyFileSync(source, theirs)
    truncateSync(theirs, 11 * MiB)
    await runOk(path('sgdisk'), ['-e', theirs])
    const images = [file, theirs].map((name) => readFileSync(name).fill(0, 446 + 5, 446 + 8))
    expect(images[0]?.equals(images[1] ?? Buffer.alloc(0))).toBe(true)
  })

  it('is left as it is where it is not sound, and the reason is said', async () => {
    const source = await disk('sfdisk')
    change(source, readFileSync(source).length - 512, Buffer.alloc(512))
    const { file, said } = await converted(source)
    expect(said).toContain(
      'the GPT is left as it is, with its second header before the new end: its second header is missing',
    )
    const [old, now] = [readFileSync(source), readFileSync(file)]
    expect(now.subarray(0, old.length).equals(old)).toBe(true)
    expect(now.subarray(old.length).every((byte) => byte === 0)).toBe(true)
  })

  it('moves in an appliance, too', async () => {
    const source = await disk('sgdisk')
    const box = folder.fresh('.ova')
    const { code, stderr } = await run(moraine, ['ova', 'create', '--disk', source, box])
    expect([code, stderr]).toEqual([0, `moraine: ${source}: the second header of the GPT is moved to the new end\n`])
    const file = folder.fresh('.raw')
    await runOk(moraine, ['convert', '-O', 'raw', box, file])
    expect(await runOk(path('sgdisk'), ['-v', file])).toContain('No problems found.')
  })

  it.each([
    ['raw', 'raw', '+7M', undefined],
    ['qcow2', 'qcow2', '64M', undefined],
    // Of whole cylinders, before and after.
    ['vhd', 'vpc', '33000K', 302 * 4 * 17 * 512],
  ] as const)('moves when a %s image grows', async (format, qemu, size, bytes) => {
    const source = await disk('sgdisk', bytes)
    const image = folder.fresh(`.${format}`)
    await qemuImg('convert', '-f', 'raw', '-O', qemu, source, image)
    const before = readFileSync(image)
    const plan = await runOk(moraine, ['resize', '--dry-run', '--move-gpt', '-f', format, image, size])
    expect(plan).toContain('the second header of the GPT is moved to the new end')
    expect(readFileSync(image).equals(before)).toBe(true)
    expect(await runOk(moraine, ['resize', '--move-gpt', '-f', format, image, size])).toBe('Image resized.\n')
    const file = folder.fresh('.raw')
    await qemuImg('convert', '-f', qemu, '-O', 'raw', image, file)
    expect(await runOk(path('sgdisk'), ['-v', file])).toContain('No problems found.')
    const [old, now] = [readFileSync(source), readFileSync(file)]
    expect(now.length).toBeGreaterThan(old.length)
    expect(now.subarray(1024, old.length).equals(old.subarray(1024))).toBe(true)
  })

  it('is left by resize as it was where it cannot move, and so is all else', async () => {
    const source = await disk('sfdisk')
    change(source, readFileSync(source).length - 512, Buffer.alloc(512))
    const before = readFileSync(source)
    const resize = (...args: string[]) => run(moraine, ['resize', '-f', 'raw', '--move-gpt', ...args])
    const refused = await resize(source, '20M')
    expect([refused.code, refused.stderr]).toEqual([
      1,
      'moraine: the GPT cannot be moved: its second header is missing\nWithout --move-gpt it is left as it is.\n',
    ])
    expect((await resize('--shrink', source, '1M')).stderr).toBe(
      'moraine: --move-gpt goes with a size that is larger\n',
    )
    expect(readFileSync(source).equals(before)).toBe(true)
    const empty = folder.fresh('.raw')
    writeFileSync(empty, Buffer.alloc(70_144))
    expect((await resize(empty, '1M')).stderr).toContain('there is no GPT to move')
    expect(readFileSync(empty)).toHaveLength(70_144)
  })

  it('is not spoken of where the size stays, or there is none', async () => {
    const source = await disk('sfdisk', 11 * MiB)
    const { file, said } = await converted(source)
    expect(said).toBe('')
    expect(readFileSync(file).equals(readFileSync(source))).toBe(true)
    const empty = folder.fresh('.raw')
    writeFileSync(empty, Buffer.alloc(70_000))
    expect((await converted(empty)).said).toBe('')
  })
})
