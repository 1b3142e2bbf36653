/** Many requests at once, in every format that is written, over a host that answers late and in any order, and at times not at all: what is asked is what is there afterwards, the check finds nothing,
 *  and QEMU sees the same. One seed tells a storm: `rage(kind, seed)` repeats it. */
import { closeSync, ftruncateSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuCheck, tryQemuImg } from '../support/qemu.ts'
import { budget, isDrawn, Random, sample, seed, timeFor } from '../support/random.ts'
import { rage, type StormResult } from '../support/storm.ts'
import { stormKinds } from './storm-kinds.ts'

const runSeed = seed('storm')

async function rageWithSeed(kind: (typeof stormKinds)[number], one: number): Promise<StormResult> {
  try {
    return await rage(kind, one)
  } catch (error) {
    throw new Error(`storm ${one} of ${kind.name}: ${(error as Error).message}`, { cause: error })
  }
}

const besideQemu = 'an image after a storm'

describe('a storm of requests', () => {
  const ms = 10_000
  const items = Array.from({ length: 1000 }, () => stormKinds).flat()

  it('leaves a sound image with all that was asked', { timeout: timeFor(ms) }, async () => {
    await sample('storms', items, { seed: runSeed, ms, atLeast: 5 }, async (kind, random) => {
      await rageWithSeed(kind, random.int(0, 1e9))
    })
  })
})

// QEMU takes half a minute to compare some of them.
if (isDrawn(besideQemu)) {
  describeWith(['qemu-img'], besideQemu, () => {
    const folder = temporaryFolder()
    const kinds = stormKinds.filter(({ qemu, encrypted }) => qemu !== undefined && encrypted === undefined)

    it('is for QEMU what it is for the engine', { timeout: timeFor(2000) }, async () => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(2000)
      let images = 0
      for (const kind of random.shuffle(kinds)) {
        if (images > 0 && Date.now() > end) break
        images++
        const one = random.int(0, 1e9)
        const { files, model, size, struck } = await rageWithSeed(kind, one)
        const what = `storm ${one} of ${kind.name}`
        const paths = [...files.files.keys()].map((name) => folder.file(name))
        for (const [name, store] of files.files) writeFileSync(folder.file(name), store.bytes())
        const top = folder.file(`top.${kind.format}`)
        const raw = folder.file('model.raw')
        writeSparse(raw, size, model.stretches)
        const qemu = kind.qemu ?? ''
        // A data file is looked for in the working folder.
        const cwd = dirname(top)
        const found = await tryQemuImg(['compare', '-U', '-f', qemu, '-F', 'raw', top, raw], { cwd })
        expect(found.code, `${what}: ${found.stdout}${found.stderr}`).toBe(0)
        if (['qcow2', 'qed', 'vmdk', 'vdi', 'vhdx', 'parallels'].includes(qemu) && !kind.options?.includes('Flat')) {
          const check = await qemuCheck(top, qemu, undefined, { cwd })
          const leaks = struck > 0 || kind.harmless !== undefined ? 0 : (check?.leaks ?? 0)
          expect([check?.corruptions ?? 0, leaks, check?.['check-errors']], `${what}: ${check?.stderr}`).toEqual([
            0, 0, 0,
          ])
        }
        for (const path of [...paths, raw]) rmSync(path)
      }
      console.info(`QEMU after storms: ${images} images`)
    })
  })
}

/** A raw image of some stretches, with holes around them. */
function writeSparse(path: string, size: number, stretches: readonly { at: number; bytes: Uint8Array }[]): void {
  const file = openSync(path, 'w')
  ftruncateSync(file, size)
  for (const { at, bytes } of stretches) writeSync(file, bytes, 0, bytes.length, at)
  closeSync(file)
}
