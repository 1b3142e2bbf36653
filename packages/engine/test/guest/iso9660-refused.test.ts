/** Volumes of ISO 9660 that cannot be made: each is refused by the name of what breaks a rule. */
import { isMoraineError, MemoryStore, type NewEntry, type NewVolumeOptions, planIsoVolume } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { bytesOf } from './support/iso.ts'

describe('volumes that cannot be made', () => {
  const file = (path: string): NewEntry => ({
    path,
    kind: 'file',
    size: 4,
    open: async () => MemoryStore.from(new Uint8Array(4)),
  })
  const cases: (readonly [string, () => NewEntry[], NewVolumeOptions, string])[] = [
    ['no name', () => [file('')], {}, 'path'],
    ['a path from the root', () => [file('/etc/passwd')], {}, 'path'],
    ['a path upwards', () => [file('a/../../b')], {}, 'path'],
    ['a name of 256 bytes', () => [file('é'.repeat(128))], {}, 'path'],
    ['a path of 10,000 folders', () => [file('a/'.repeat(9999).concat('a'))], {}, 'path'],
    ['a path of 4,096 bytes', () => [file(`${'é/'.repeat(1365)}a`)], {}, 'path'],
    ['a zero in a name', () => [file('a\0b')], {}, 'path'],
    ['one path twice', () => [file('a'), file('a')], {}, 'path'],
    ['a file in a file', () => [file('a'), file('a/b')], {}, 'path'],
    ['a file over a folder', () => [file('a/b'), file('a')], {}, 'path'],
    ['a file without content', () => [{ path: 'a', kind: 'file', size: 1 }], {}, 'path'],
    ['a file of a negative size', () => [{ ...file('a'), size: -1 }], {}, 'path'],
    ['a link that leads nowhere', () => [{ path: 'a', kind: 'symlink' }], {}, 'path'],
    ['a link that leads too far', () => [{ path: 'a', kind: 'symlink', target: 'x'.repeat(4096) }], {}, 'path'],
    ['a label of 33 characters', () => [file('a')], { volumeId: 'x'.repeat(33) }, 'volumeId'],
    ['a label that is no ASCII', () => [file('a')], { volumeId: 'é' }, 'volumeId'],
    ['a time before 1970', () => [file('a')], { time: -1 }, 'time'],
    ['no boot image', () => [file('a')], { boot: [{ path: 'b', platform: 'bios' }] }, 'boot image'],
    ['a folder to boot', () => [file('a/b')], { boot: [{ path: 'a', platform: 'bios' }] }, 'boot image'],
    [
      'a floppy disk of 4 bytes',
      () => [file('a')],
      { boot: [{ path: 'a', platform: 'bios', emulation: 'floppy' }] },
      'boot image',
    ],
    [
      'no room for the boot table',
      () => [file('a')],
      { boot: [{ path: 'a', platform: 'bios', infoTable: true }] },
      'boot image',
    ],
    ['a system area of 33 KiB', () => [file('a')], { systemArea: new Uint8Array(33 * 1024) }, 'system area'],
  ]

  it.each(cases)('%s', (_name, entries, options, field) => {
    let error: unknown
    try {
      planIsoVolume(entries(), options)
    } catch (caught) {
      error = caught
    }
    expect(isMoraineError(error, 'invalid') && error.field).toBe(field)
  })

  it('more than the format holds', () => {
    const open = async () => MemoryStore.from(new Uint8Array(0))
    const huge = { path: 'huge', kind: 'file', size: 9 * 2 ** 40, open } as const
    expect(() => planIsoVolume([huge])).toThrow(expect.objectContaining({ kind: 'limit', field: 'sectors' }))
    const folders = Array.from({ length: 65_536 }, (_, at): NewEntry => ({ path: `${at}`, kind: 'directory' }))
    expect(() => planIsoVolume(folders)).toThrow(expect.objectContaining({ kind: 'limit', field: 'directories' }))
  })

  it('not the longest path', async () => {
    const deep = `${'a/'.repeat(2047)}b`
    expect(deep.length).toBe(4095)
    const plan = planIsoVolume([file(deep)])
    expect((await bytesOf(plan)).length).toBe(plan.length)
  })

  it('an image that no partition table reaches', () => {
    const open = async () => MemoryStore.from(new Uint8Array(4))
    const boot = [{ path: 'efi.img', platform: 'efi' }] as const
    const behind = (size: number): NewEntry[] => [{ path: 'a', kind: 'file', size, open }, file('efi.img')]
    const most = 2 ** 41
    expect(planIsoVolume(behind(most - 2 ** 20), { boot, hybrid: true }).length).toBeLessThan(most)
    const plan = () => planIsoVolume(behind(most), { boot, hybrid: true })
    expect(plan).toThrow(expect.objectContaining({ kind: 'limit', field: 'first sector' }))
    expect(planIsoVolume(behind(most), { boot }).length).toBeGreaterThan(most)
  })

  it('a file that changes under way', async () => {
    const grown = { ...file('a'), open: async () => MemoryStore.from(new Uint8Array(5), 'grown') }
    await expect(bytesOf(planIsoVolume([grown]))).rejects.toMatchObject({ kind: 'io', field: 'size', path: 'grown' })
  })
})
