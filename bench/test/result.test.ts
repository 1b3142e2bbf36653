/** The benchmark's arithmetic, and its clock on programs whose cost is known. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeWith } from '../../packages/engine/test/support/process.ts'
import { program } from '../support/process.ts'
import { judge, measure, median, type Score } from '../support/result.ts'
import { page, table } from '../support/table.ts'

test('the median is the middle value', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 3, 2])).toBe(2.5)
  expect(() => median([])).toThrow()
})

describe('verdicts', () => {
  const scores = (ours: Partial<Score>, theirs: Partial<Score>): Score[] => [
    { name: 'moraine', seconds: 1, samples: [], ...ours },
    { name: 'qemu-img', seconds: 1, samples: [], ...theirs },
  ]
  const job = { name: 'a/b', title: 'A b' }

  test('the ratio is ours to theirs, and must not pass the limit', () => {
    const limited = { ...job, atMost: 0.4 }
    expect(judge(limited, scores({ seconds: 0.39 }, {}), 'qemu-img', undefined, 0)).toMatchObject({
      ratio: 0.39,
      misses: [],
    })
    expect(judge(limited, scores({ seconds: 0.41 }, {}), 'qemu-img', undefined, 0).misses).toEqual(['time'])
  })

  test('the standalone executable has a verdict of its own', () => {
    const three = [...scores({ seconds: 1.2 }, {}), { name: 'standalone', seconds: 0.9, samples: [] }]
    const result = judge({ ...job, atMost: 1 }, three, 'qemu-img', undefined, 0)
    expect([result.misses, result.standaloneMisses]).toEqual([['time'], []])
    expect(judge({ ...job, atMost: 0.8 }, three, 'qemu-img', undefined, 0).standaloneMisses).toEqual(['time'])
    expect(judge(job, scores({}, {}), 'qemu-img', undefined, 0).standaloneMisses).toBeUndefined()
  })

  test('the start of a process is allowed where the job says so', () => {
    const late = scores({ seconds: 1.05 }, {})
    expect(judge({ ...job, atMost: 1, plusStart: true }, late, 'qemu-img', undefined, 0.06).misses).toEqual([])
    expect(judge({ ...job, atMost: 1 }, late, 'qemu-img', undefined, 0.06).misses).toEqual(['time'])
  })

  test('memory and size have limits of their own', () => {
    const big = scores({ peakBytes: 11, outputBytes: 106 }, { peakBytes: 1, outputBytes: 100 })
    expect(judge({ ...job, peakAtMost: 10, sizeAtMost: 1.05 }, big, 'qemu-img', undefined, 0).misses).toEqual([
      'memory',
      'size',
    ])
    expect(judge({ ...job, peakAtMost: 11, sizeAtMost: 1.06 }, big, 'qemu-img', undefined, 0).misses).toEqual([])
  })

  test('what is read has a limit, and must have been counted', () => {
    const limited = { ...job, readAtMost: 100 }
    expect(judge(limited, scores({ readBytes: 100 }, {}), 'qemu-img', undefined, 0).misses).toEqual([])
    expect(judge(limited, scores({ readBytes: 101 }, {}), 'qemu-img', undefined, 0).misses).toEqual(['reads'])
    expect(judge(limited, scores({}, {}), 'qemu-img', undefined, 0).misses).toEqual(['reads'])
  })

  test('the table has every row, and says what does not hold', () => {
    const result = judge({ ...job, atMost: 0.5 }, scores({ peakBytes: 2 ** 20 }, {}), 'qemu-img', 5e8, 0)
    const text = table([result])
    expect(text.split('\n')).toHaveLength(3)
    expect(text).toMatch(
      /\| A b +\| 1\.000 +\| +\| 1\.000 \(qemu-img\) \| +\| 1\.00 +\| +\| 0\.5 +\| +\| 1 MiB \| +\| 500 MB\/s \| no: time \|/,
    )
    const machine = { processor: 'p', cores: 2, memoryGiB: 4, system: 's', filesystem: 'ext4', node: '24', qemu: 'q' }
    expect(page([{ ...result, date: '2026-01-02', commit: 'abc' }], machine, 5)).toContain('- commit: abc (2026-01-02)')
  })
})

describe('rounds', () => {
  test('contenders take turns, the first round does not count, the result is looked at once', async () => {
    const order: string[] = []
    let looked = 0
    const contender = (name: string, seconds: number) => ({
      name,
      run: async () => {
        order.push(name)
        // The first run of each is slow.
        return { seconds: order.filter((item) => item === name).length === 1 ? 100 : seconds, peakBytes: order.length }
      },
    })
    const prepared = {
      contenders: [contender('moraine', 1), contender('qemu-img', 2)],
      against: 'qemu-img',
      verify: async () => void looked++,
    }
    const result = await measure({ name: 'a/b', title: 'A b' }, prepared, 3, 0)
    expect(order.join(' ')).toBe('moraine qemu-img moraine qemu-img qemu-img moraine moraine qemu-img')
    expect(result).toMatchObject({ ratio: 0.5, scores: [{ samples: [1, 1, 1], peakBytes: 7 }, { samples: [2, 2, 2] }] })
    expect(looked).toBe(1)
  })
})

describeWith(['time'], 'the clock', () => {
  let scratch: string
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'moraine-bench-test-'))
  })
  afterAll(() => rm(scratch, { recursive: true, force: true }))

  test('wall time and peak memory of a program', async () => {
    const holds = program(
      'node',
      [process.execPath, '-e', 'Buffer.alloc(200 * 2 ** 20, 1); setTimeout(() => {}, 300)'],
      { scratch },
    )
    const { seconds, peakBytes } = await holds.run()
    expect(seconds).toBeGreaterThan(0.3)
    expect(peakBytes).toBeGreaterThan(200 * 2 ** 20)
    expect(peakBytes).toBeLessThan(400 * 2 ** 20)
  })

  test('the result is measured and removed before the next run; a program that fails is an error', async () => {
    const target = join(scratch, 'out')
    const makes = program('sh', ['sh', '-c', `set -C; printf x > ${target}`], { scratch, target })
    expect((await makes.run()).outputBytes).toBeGreaterThan(0)
    expect((await makes.run()).outputBytes).toBeGreaterThan(0)
    await expect(program('false', ['false'], { scratch }).run()).rejects.toThrow(/exit 1/)
  })
})
