/** Check and repair beside qemu-img's, on images with damage of every sort: the same counters before and after, an image that both find
 *  clean, and the same guest bytes in it. */
import { copyFileSync, writeFileSync } from 'node:fs'
import { isMoraineError } from '@moraine/engine'
import { expect, it } from 'vitest'
import { checkFile } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Image } from '../support/qcow2-image.ts'
import type { Qcow2Spec } from '../support/qcow2-spec.ts'
import { guestSha, qemuCheck, tryQemuImg } from '../support/qemu.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { corpus } from './corpus.ts'

const folder = temporaryFolder()

/** A sort of damage. */
type Damage = (image: Qcow2Image, random: Random) => void

const copied = 1n << 63n

const anyCluster = (image: Qcow2Image, random: Random): number =>
  random.int(0, image.bytes.length / image.clusterSize - 1)
/** An L2 entry of the active disk, anywhere in its tables. */
function anyEntry(image: Qcow2Image, random: Random): number {
  const table = random.pick(Object.values(image.at.l2))
  return table + random.int(0, 15) * (image.extendedL2 ? 16 : 8)
}

const damages: Record<string, Damage> = {
  'wrong counts': (image, random) => {
    for (let i = 0; i < 3; i++) {
      const most = (1n << BigInt(1 << image.order)) - 1n
      const count = BigInt(random.int(0, 5))
      image.setCount(anyCluster(image, random), count > most ? most : count)
    }
  },
  'counts of 0': (image, random) => image.setCount(anyCluster(image, random), 0n),
  'flags of L2 entries': (image, random) => {
    const at = anyEntry(image, random)
    image.setU64(at, image.getU64(at) ^ copied)
  },
  'flags of L1 entries': (image) => image.setU64(image.at.l1, image.getU64(image.at.l1) ^ copied),
  'entries that are gone': (image, random) => image.setU64(anyEntry(image, random), 0n),
  'entries that share a cluster': (image, random) => {
    image.setU64(anyEntry(image, random), image.getU64(anyEntry(image, random)))
    if (image.extendedL2) image.setU64(anyEntry(image, random) + 8, 0xffff_ffffn)
  },
  'entries that point at metadata': (image, random) => {
    image.setU64(anyEntry(image, random), BigInt(anyCluster(image, random) * image.clusterSize) | copied)
  },
  'entries past the end': (image, random) =>
    image.setU64(anyEntry(image, random), BigInt(image.bytes.length * 3) | copied),
  'entries that are not aligned': (image, random) => {
    const at = anyEntry(image, random)
    image.setU64(at, image.getU64(at) + 512n)
  },
  'reserved bits': (image, random) => {
    const at = anyEntry(image, random)
    image.setU64(at, image.getU64(at) | (1n << BigInt(random.int(1, 8))))
  },
  'a refcount block that is gone': (image) => image.setU64(image.at.refcountTable, 0n),
  'a refcount block past the end': (image) => image.setU64(image.at.refcountTable, BigInt(image.clusterSize * 1000)),
  'a refcount block that is not aligned': (image) =>
    image.setU64(image.at.refcountTable, image.getU64(image.at.refcountTable) + 512n),
  'an L2 table that is gone': (image) => image.setU64(image.at.l1, 0n),
  'an L2 table that is not aligned': (image) => image.setU64(image.at.l1, image.getU64(image.at.l1) + 512n),
  'a cluster nobody refers to': (image) => {
    const end = image.bytes.length
    image.grow(end + image.clusterSize)
    image.setCount(end / image.clusterSize, 1n)
  },
  'the corrupt bit': (image) => image.set('incompatible_features', image.get('incompatible_features') | 2n),
  'the dirty bit': (image) => image.set('incompatible_features', image.get('incompatible_features') | 1n),
  'a file cut short': (image, random) => image.cut(image.bytes.length - random.int(1, 3) * image.clusterSize),
}

/** Sound images to damage; version 2 has no feature bits. */
const specs: [string, Qcow2Spec][] = Object.entries(corpus).filter(([, spec]) => spec.version !== 2)

const counters = ['check-errors', 'corruptions', 'leaks', 'corruptions-fixed', 'leaks-fixed'] as const

async function theirs(file: string, repair?: 'leaks' | 'all'): Promise<number[] | 'an error'> {
  const result = await qemuCheck(file, 'qcow2', repair)
  return result === undefined ? 'an error' : counters.map((name) => result[name] ?? 0)
}

async function ours(file: string, repair: 'none' | 'leaks' | 'all'): Promise<number[] | 'an error'> {
  try {
    const first = await checkFile(file, 'qcow2', repair)
    // As qemu-img does: what is told is the state after the repair, and what it fixed.
    const fixed = first.result.corruptionsFixed + first.result.leaksFixed > 0
    const { result } = fixed ? await checkFile(file, 'qcow2') : first
    const { corruptionsFixed, leaksFixed } = first.result
    return [result.checkErrors, result.corruptions, result.leaks, corruptionsFixed, leaksFixed]
  } catch (error) {
    if (!isMoraineError(error)) throw error
    return 'an error'
  }
}

/** How much a check found. */
function total(found: number[] | 'an error'): number {
  return found === 'an error' ? Number.POSITIVE_INFINITY : found.reduce((sum, n) => sum + n, 0)
}

/** Where the engine and qemu-img part, and why. */
function known(chosen: readonly string[], spec: Qcow2Spec, repair: string): boolean {
  return (
    // For QEMU, a block past the end is itself a cluster that has no count.
    chosen.includes('a refcount block past the end') ||
    // qemu-img cannot open it for writing.
    (chosen.includes('a refcount block that is not aligned') && repair !== 'none') ||
    // QEMU takes zeros past the end of the file for snapshots.
    (chosen.includes('a file cut short') && spec.snapshots !== undefined)
  )
}

describeWith(['qemu-img'], 'check and repair of damaged qcow2 images', () => {
  const runSeed = seed('check-oracle')
  const names = Object.keys(damages)

  it(
    'agree with qemu-img',
    async () => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(20_000)
      const failures: string[] = []
      let count = 0
      while (failures.length < 5 && (Date.now() < end || count < 20)) {
        count++
        const [name, spec] = random.pick(specs)
        const chosen = Array.from({ length: random.int(1, 2) }, () => random.pick(names))
        const image = buildQcow2(spec)
        // Cut last: the other damage wants the tables where they were.
        chosen.sort((one, other) => names.indexOf(one) - names.indexOf(other))
        for (const damage of chosen) damages[damage]?.(image, random)
        const file = folder.file('damaged.qcow2')
        image.save(file)
        // qemu-img 7.2 loses the snapshots of an image with bitmaps when it repairs it.
        const losesSnapshots = spec.bitmaps !== undefined && spec.snapshots !== undefined
        const repair = losesSnapshots ? 'none' : random.pick(['none', 'leaks', 'all'] as const)
        try {
          const [a, b] = [folder.file('a.qcow2'), folder.file('b.qcow2')]
          copyFileSync(file, a)
          copyFileSync(file, b)
          const [mine, oracle] = [await ours(a, repair), await theirs(b, repair === 'none' ? undefined : repair)]
          if (known(chosen, spec, repair)) continue
          // qemu-img gives some of its repairs up half-way; one that comes to its end is no fault of ours.
          if (oracle === 'an error' && repair === 'all' && mine !== 'an error') continue
          expect(mine, 'counters').toEqual(oracle)
          if (repair !== 'all' || mine === 'an error') continue
          // What is left when a repair is not enough depends on where it put things; it must not be more than qemu-img leaves.
          const [left, leftThere] = [await theirs(a), await theirs(b)]
          if (total(left) > total(leftThere)) expect(left, 'left by our repair, counted by qemu-img').toEqual(leftThere)
          // What a guest reads out of metadata changes with it.
          if (chosen.includes('entries that point at metadata')) continue
          const read = await tryQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', b, `${b}.raw`])
          if (read.code === 0) expect(await guestSha(a, 'qcow2'), 'guest bytes').toBe(await guestSha(b, 'qcow2'))
        } catch (error) {
          const kept = `${name}; ${chosen.join(', ')}; repair ${repair}`
          failures.push(`${kept}: ${(error as Error).message}`)
          if (process.env.MORAINE_KEEP !== undefined)
            writeFileSync(`${process.env.MORAINE_KEEP}.${failures.length}`, image.bytes)
        }
      }
      console.info(`check-oracle: ${count} images`)
      expect(failures.join('\n'), `MORAINE_SEED=${runSeed}`).toBe('')
    },
    timeFor(20_000),
  )
})
