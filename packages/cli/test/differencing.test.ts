/** Differencing images from the command: made over a parent, found again, flattened, refused over another. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { createFile, openWritable, withImage, withWritable } from '../../engine/test/support/disk.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { DiskModel } from '../../engine/test/support/model.ts'
import { describeWith, type RunResult, run, tool } from '../../engine/test/support/process.ts'
import { bytesSha, guestSha } from '../../engine/test/support/qemu.ts'
import { Random, seed } from '../../engine/test/support/random.ts'
import { Fixtures, moraine, words } from './support/differential.ts'

const formats = ['vhd', 'vhdx', 'vdi', 'vmdk'] as const
const temporary = temporaryFolder()

describe.each(formats)('differencing %s images', (format) => {
  let folder: string
  /** What the base holds. */
  let content: Uint8Array

  function call(line: string): Promise<RunResult> {
    return run(moraine, words(line), { cwd: folder })
  }

  async function ok(line: string): Promise<string> {
    const { code, stdout, stderr } = await call(line)
    expect(code, `${line}: ${stderr}`).toBe(0)
    return stdout
  }

  async function bytesOf(path: string): Promise<Uint8Array> {
    return withImage(path, format, async (disk) => {
      const bytes = new Uint8Array(disk.size)
      await disk.read(0, bytes)
      return bytes
    })
  }

  beforeEach(async () => {
    folder = temporary.fresh()
    mkdirSync(join(folder, 'sub'), { recursive: true })
    const base = join(folder, `sub/base.${format}`)
    await createFile(base, format, 12 << 20)
    await withWritable(base, format, (disk) => disk.write(1_000_000, new Random(7).bytes(300_000)))
    content = await bytesOf(base)
    writeFileSync(join(folder, 'base.raw'), content)
  })

  it('take the size of the parent, hold what is written, and are found as a chain', async () => {
    const base = readFileSync(join(folder, `sub/base.${format}`))
    const random = new Random(seed(`differencing ${format}`))
    for (const [name, under, start] of [
      ['child', 'sub/base', 0],
      ['grand', 'child', 6 << 20],
    ] as const) {
      await ok(`create -q -f ${format} -b ${under}.${format} -F ${format} ${name}.${format}`)
      const open = () => openWritable(join(folder, `${name}.${format}`), format)
      const model = new DiskModel(await open(), content, open)
      await model.compare()
      for (let i = 0; i < 6; i++) {
        const at = random.int(start, start + (2 << 20))
        const length = random.int(1, 200_000)
        if (i === 0 || random.bool(0.7)) await model.step({ do: 'write', at, length, seed: i })
        else await model.step({ do: 'zero', at, length, mode: random.bool() ? 'unmap' : 'allocate' })
      }
      await model.compare()
      await model.disk.close()
      content = model.bytes
    }
    expect(Buffer.compare(readFileSync(join(folder, `sub/base.${format}`)), base), 'the base is left alone').toBe(0)
    const chain = JSON.parse(await ok(`info --backing-chain --output=json grand.${format}`)) as Record<
      string,
      unknown
    >[]
    expect(chain.map(({ filename }) => filename)).toEqual([`grand.${format}`, `child.${format}`, `sub/base.${format}`])
    expect(new Set(chain.map((image) => image['virtual-size']))).toEqual(new Set([content.length]))
    const map = JSON.parse(await ok(`map --output=json grand.${format}`)) as { depth: number; length: number }[]
    expect(new Set(map.map(({ depth }) => depth))).toEqual(new Set([0, 1, 2]))
    expect(map.reduce((sum, { length }) => sum + length, 0)).toBe(content.length)
    await ok(`convert -O raw grand.${format} flat.raw`)
    expect(Buffer.compare(readFileSync(join(folder, 'flat.raw')), content), 'flattened').toBe(0)
    await ok(`convert -O ${format} grand.${format} flat.${format}`)
    const flat = await withImage(join(folder, `flat.${format}`), format, async (disk) => disk.info())
    expect(flat.backing).toBeUndefined()
    expect(Buffer.compare(await bytesOf(join(folder, `flat.${format}`)), content), 'flattened').toBe(0)
    await ok(`check child.${format}`)
  })

  it('are targets of convert -B, and keep only what differs', async () => {
    const changed = content
    changed.fill(3, 2_000_000, 2_070_000)
    changed.fill(0, 1_100_000, 1_150_000)
    writeFileSync(join(folder, 'changed.raw'), changed)
    await ok(`convert -f raw -O ${format} -B sub/base.${format} -F ${format} changed.raw over.${format}`)
    expect(Buffer.compare(await bytesOf(join(folder, `over.${format}`)), changed)).toBe(0)
    const chain = JSON.parse(await ok(`info --backing-chain --output=json over.${format}`)) as unknown[]
    expect(chain).toHaveLength(2)
  })

  it('go along when the folder is moved, and are found by an absolute name', async () => {
    await ok(`create -q -f ${format} -b sub/base.${format} -F ${format} child.${format}`)
    const absolute = join(folder, `sub/base.${format}`)
    await ok(`create -q -f ${format} -b ${absolute} -F ${format} named.${format}`)
    expect(Buffer.compare(await bytesOf(join(folder, `named.${format}`)), content)).toBe(0)
    const moved = `${folder}-moved`
    renameSync(folder, moved)
    expect(Buffer.compare(await bytesOf(join(moved, `child.${format}`)), content)).toBe(0)
    rmSync(moved, { recursive: true })
  })

  it('refuse a parent that is another, or was changed in identity, and name one that is missing', async () => {
    await ok(`create -q -f ${format} -b sub/base.${format} -F ${format} child.${format}`)
    renameSync(join(folder, `sub/base.${format}`), join(folder, `sub/other.${format}`))
    const missing = await call(`convert -O raw child.${format} x.raw`)
    expect(missing.code).toBe(1)
    expect(missing.stderr).toContain(`base.${format}`)
    await createFile(join(folder, `sub/base.${format}`), format, 12 << 20)
    const wrong = await call(`convert -O raw child.${format} x.raw`)
    expect(wrong.code).toBe(1)
    expect(wrong.stderr).toMatch(/parent/)
    rmSync(join(folder, `sub/base.${format}`))
    renameSync(join(folder, `sub/other.${format}`), join(folder, `sub/base.${format}`))
    expect(Buffer.compare(await bytesOf(join(folder, `child.${format}`)), content)).toBe(0)
  })

  it('stand over their own kind only, and under any overlay', async () => {
    const refused = await call(`create -f ${format} -b base.raw -F raw child.${format}`)
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(format === 'vmdk' ? /must be a vmdk image/ : /cannot be the parent of a \w+ image/)
    await ok(`create -q -f ${format} -b sub/base.${format} -F ${format} child.${format}`)
    await ok(`create -q -f qcow2 -b child.${format} -F ${format} top.qcow2`)
    await ok(`compare top.qcow2 base.raw`)
    const top = JSON.parse(await ok('info --output=json top.qcow2')) as Record<string, unknown>
    // The name that QEMU knows.
    expect(top['backing-filename-format']).toBe(format === 'vhd' ? 'vpc' : format)
  })
})

describeWith(['qemu-img'], 'differencing images beside qemu-img', () => {
  const fixtures = new Fixtures()
  for (const format of ['vpc', 'vhdx', 'vdi']) fixtures.sameOnCopies('', `create -f ${format} -b base -F raw child`)
  fixtures.sameOnCopies('', 'create -f vpc -o backing_file=base child 5M')
  fixtures.sameOnCopies('', ['create -q -f raw x 1M', 'convert -O vpc -B base -F raw x child'])
  fixtures.same('create -f vpc -o help')

  it('of VMDK are read by it', async () => {
    const folder = temporary.fresh()
    mkdirSync(folder)
    const at = (name: string): string => join(folder, name)
    for (const line of ['create -q -f vmdk base.vmdk 5M', 'create -q -f vmdk -b base.vmdk -F vmdk child.vmdk']) {
      expect((await run(moraine, words(line), { cwd: folder })).code).toBe(0)
    }
    const disk = await openWritable(at('child.vmdk'), 'vmdk')
    const bytes = new Uint8Array(disk.size).fill(9, 1_000_000, 1_100_000)
    await disk.write(1_000_000, bytes.slice(1_000_000, 1_100_000))
    await disk.close()
    expect(await guestSha(at('child.vmdk'), 'vmdk')).toBe(bytesSha(bytes))
  })
})

describeWith(['vhdiinfo', 'vmdkinfo'], 'differencing images beside libvhdi and libvmdk', () => {
  it.each([
    ['vhd', 'vhdiinfo', 'Parent identifier', /Disk type\s*: Differential/],
    ['vhdx', 'vhdiinfo', 'Parent identifier', /Disk type\s*: Differential/],
    ['vmdk', 'vmdkinfo', 'Parent content identifier', /Parent filename:\s+base\.vmdk/],
  ] as const)('%s', async (format, program, parentField, kind) => {
    const folder = temporary.fresh()
    mkdirSync(folder)
    for (const line of [
      `create -q -f ${format} base.${format} 20M`,
      `create -q -f ${format} -b base.${format} -F ${format} child.${format}`,
    ]) {
      expect((await run(moraine, words(line), { cwd: folder })).code).toBe(0)
    }
    const tell = async (name: string): Promise<string> =>
      (await run(tool(program).path ?? program, [name], { cwd: folder })).stdout
    const field = (text: string, name: string): string | undefined =>
      new RegExp(`^\\s*${name}\\s*:\\s*(.*)$`, 'm').exec(text)?.[1]
    const child = await tell(`child.${format}`)
    const base = await tell(`base.${format}`)
    expect(child).toMatch(kind)
    const identity = field(base, format === 'vmdk' ? 'Content identifier' : 'Identifier')
    expect(identity).toBeDefined()
    expect(field(child, parentField)).toBe(identity)
    if (format !== 'vmdk') expect(field(child, 'Parent filename')).toContain(`base.${format}`)
    expect(field(child, 'Media size')).toBe(field(base, 'Media size'))
  })
})
