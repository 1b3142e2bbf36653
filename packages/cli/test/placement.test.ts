/** What file systems are asked for: no copy-on-write of Btrfs, extent sizes of XFS; said and done as qemu-img does. */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { reasonAgainstLoop } from '../../engine/test/support/loop.ts'
import { describeWith, run, runOk } from '../../engine/test/support/process.ts'
import { compared, words } from './support/differential.ts'

const folder = temporaryFolder()
const withNative = process.platform === 'linux' && process.env.MORAINE_NATIVE !== 'off'

const env = { ...process.env, LC_ALL: 'C', MORAINE_CALLED_AS: 'qemu-img' }
const programs = {
  theirs: { program: 'qemu-img', args: [] as string[] },
  ours: compared,
}

/** A file system in a file, mounted for the tests of a block. */
function mounted(type: string, bytes: number): string {
  const place = folder.fresh()
  beforeAll(async () => {
    const file = folder.fresh('.img')
    writeFileSync(file, '')
    truncateSync(file, bytes)
    await runOk(`mkfs.${type}`, ['-q', file])
    mkdirSync(place)
    await runOk('mount', ['-o', 'loop', file, place])
  })
  afterAll(async () => {
    await runOk('umount', [place])
  })
  return place
}

/** What both say, each in a folder of its own. */
async function both(place: string, line: string) {
  const said = []
  for (const [name, { program, args }] of Object.entries(programs)) {
    const cwd = join(place, name)
    mkdirSync(cwd, { recursive: true })
    const { code, stdout, stderr } = await run(program, [...args, ...words(line)], { cwd, env })
    said.push({ code, stdout, stderr })
  }
  return said
}

const reason = withNative ? reasonAgainstLoop() : 'MORAINE_NATIVE=off'

describe.skipIf(reason !== undefined)(
  `wishes to file systems${reason === undefined ? '' : ` [skipped: ${reason}]`}`,
  () => {
    describeWith(['qemu-img', 'mkfs.btrfs', 'lsattr'], 'Btrfs', () => {
      const place = mounted('btrfs', 128 * 1024 * 1024)

      it.each([
        ['create -f raw -o nocow=on a 1M', 'a'],
        ['create -f qcow2 -o nocow=on a 1M', 'a'],
        ['create -f vmdk -o nocow=on,subformat=monolithicFlat b.vmdk 1M', 'b-flat.vmdk'],
        ['convert -O qcow2 -o nocow=on a c', 'c'],
        ['create -f raw -o extent_size_hint=64k d 1M', undefined],
        ['create -f raw e 1M', undefined],
      ])('%s', async (line, marked) => {
        const [theirs, ours] = await both(place, line)
        expect(ours).toEqual(theirs)
        for (const name of Object.keys(programs)) {
          const listed = await runOk('lsattr', ['-d', join(place, name, marked ?? line.split(' ').at(-2) ?? '')])
          expect(/^\S*C/.test(listed), name).toBe(marked !== undefined)
        }
      })
    })

    describeWith(['qemu-img', 'mkfs.xfs', 'xfs_io'], 'XFS', () => {
      const place = mounted('xfs', 320 * 1024 * 1024)

      it.each([
        ['create -f raw -o extent_size_hint=64k a 1M', 'a', 65536],
        ['create -f qcow2 -o extent_size_hint=128k a 1M', 'a', 131072],
        ['convert -O qcow2 -o extent_size_hint=64k,nocow=on a b', 'b', 65536],
        ['create -f raw -o extent_size_hint=5000 c 1M', undefined, 0],
        ['create -f raw -o extent_size_hint=4G d 1M', undefined, 0],
      ])('%s', async (line, file, size) => {
        const [theirs, ours] = await both(place, line)
        expect(ours).toEqual(theirs)
        if (file === undefined) return
        for (const name of Object.keys(programs)) {
          const told = await runOk('xfs_io', ['-c', 'extsize', join(place, name, file)])
          expect(told, name).toContain(`[${size}]`)
        }
      })
    })
  },
)
