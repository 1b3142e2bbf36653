/** The generated command lines: thousands, valid and wrong, through qemu-img and through ours. */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeWith, projectRoot } from '../../../engine/test/support/process.ts'
import { makeFixtures } from './fixtures.ts'
import { Originals } from './folder.ts'
import { knownDifferences, unexplained } from './known.ts'
import { allLines } from './lines/index.ts'
import { withDifferences } from './page.ts'
import { runBoth } from './runner.ts'

const lines = allLines()

/** The share of the lines that is run: all with the standalone executable, which starts fast, when nobody is in a hurry; else a few, other ones for each seed. */
const share = Number(process.env.MORAINE_LINES ?? usualShare())

function usualShare(): number {
  const budget = Number(process.env.MORAINE_BUDGET ?? '1')
  if (process.env.MORAINE_COMMAND === 'binary') return budget >= 1 ? 1 : 0.04
  return process.env.MORAINE_COMMAND === 'built' ? 0.01 : 0.02
}

function isDrawn(line: string): boolean {
  const sum = createHash('sha256')
    .update(`${process.env.MORAINE_SEED ?? ''} ${line}`)
    .digest()
  return sum.readUInt32BE() / 2 ** 32 < share
}

it('are thousands, of all verbs', () => {
  expect([...lines.values()].flat().length).toBeGreaterThan(5000)
  for (const [verb, made] of lines) expect([verb, made.length > 120]).toEqual([verb, true])
})

it('differ in what the page says, and in nothing else', () => {
  const path = join(projectRoot, 'docs', 'qemu-img.md')
  const page = readFileSync(path, 'utf8')
  if (process.env.MORAINE_WRITE_PAGE === '1') writeFileSync(path, withDifferences(page))
  else expect(page).toBe(withDifferences(page))
})

describeWith(['qemu-img', 'qemu-io'], 'generated lines', () => {
  const originals = new Originals()
  const met = new Set<string>()
  beforeAll(() => makeFixtures(originals.folder), 120_000)
  afterAll(() => originals.remove())

  for (const [verb, made] of lines) {
    describe(verb, () => {
      for (const line of made.filter(isDrawn)) {
        it(`qemu-img ${line}`, async () => {
          const outcome = await runBoth(line, originals)
          const told = unexplained(line, outcome, (what) => met.add(what)).map(([aspect, text]) => `${aspect}\n${text}`)
          expect(told, `qemu-img ${line}\n${told.join('\n')}`).toEqual([])
        })
      }
    })
  }

  it.runIf(share >= 1)('need each of the known differences', () => {
    expect(knownDifferences.map(({ what }) => what).filter((what) => !met.has(what))).toEqual([])
  })
})
