/** `moraine resize` of the formats that qemu-img does not resize, looked at by qemu-img, libvhdi and libvmdk. */
import { expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { moraine, ourQemuImg } from './support/differential.ts'

const folder = temporaryFolder()
const MiB = 1 << 20

async function made(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  expect(code, stderr).toBe(0)
  return stdout
}

/** `tool` tells the size, where there is one. */
const images: readonly (readonly [format: string, qemu: string, options: string, tool: string])[] = [
  ['vdi', 'vdi', '', ''],
  ['vdi', 'vdi', 'static=on', ''],
  ['vhd', 'vpc', 'force_size=on', 'vhdiinfo'],
  ['vhd', 'vpc', 'subformat=fixed,force_size=on', 'vhdiinfo'],
  ['vhdx', 'vhdx', '', 'vhdiinfo'],
  ['vmdk', 'vmdk', '', 'vmdkinfo'],
  ['vmdk', 'vmdk', 'subformat=monolithicFlat', 'vmdkinfo'],
  ['parallels', 'parallels', '', ''],
  ['qcow', 'qcow', '', ''],
]

describeWith(['qemu-img', 'qemu-io', 'vhdiinfo', 'vmdkinfo'], 'resize', () => {
  it.each(images)('%s %s %s', async (format, qemu, options, tool) => {
    const image = folder.fresh(`.${format}`)
    await made('create', '-q', '-f', format, ...(options === '' ? [] : ['-o', options]), image, '5M')
    await qemuIo(image, qemu, 'write -P 7 4M 1M')
    const refused = await run(ourQemuImg, ['resize', '-f', qemu, image, '70M'])
    expect(refused).toMatchObject({ code: 1, stderr: 'qemu-img: Image format driver does not support resize\n' })
    expect(await made('resize', '-f', format, image, '70M')).toBe('Image resized.\n')
    const info = JSON.parse(await qemuImg('info', '-f', qemu, '--output=json', image))
    expect(info['virtual-size']).toBe(70 * MiB)
    await qemuIo(image, qemu, 'read -P 7 4M 1M', 'read -P 0 5M 65M', 'write -P 9 69M 1M')
    await made('check', '-q', image)
    if (tool !== '') expect((await run(tool, [image])).stdout).toMatch(/Media size\s*:\s+70 MiB/)
  })

  it('commit lets a base of such a format grow, too', async () => {
    const [base, over] = [folder.fresh('.vdi'), folder.fresh('.qcow2')]
    await made('create', '-q', '-f', 'vdi', base, '5M')
    await made('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'vdi', over, '9M')
    await qemuIo(over, 'qcow2', 'write -P 3 8M 1M')
    expect((await run(ourQemuImg, ['commit', over])).stderr).toContain('Operation not supported')
    await made('commit', '-q', over)
    await qemuIo(base, 'vdi', 'read -P 0 0 8M', 'read -P 3 8M 1M')
  })
})
