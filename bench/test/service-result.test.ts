import { describe, expect, it } from 'vitest'
import { holds, serviceTable } from '../support/service-result.ts'

const row = { name: 'image-service/x', title: 'x', unit: 'requests/s' as const, ours: 50, theirs: 10, ratio: 5 }

describe('a row of the image service', () => {
  it('holds when its ratio is high enough', () => {
    expect(holds({ ...row, atLeast: 5 })).toBe(true)
    expect(holds({ ...row, atLeast: 5.1 })).toBe(false)
    expect(holds({ ...row, ratio: undefined, atLeast: 1 })).toBe(false)
  })

  it('holds when ours is no more than allowed', () => {
    expect(holds({ ...row, atMost: 50 })).toBe(true)
    expect(holds({ ...row, atMost: 49 })).toBe(false)
    expect(holds({ ...row, ours: Number.NaN, atMost: 49 })).toBe(false)
  })

  it('is shown with what stands beside it', () => {
    const detail = { p50: 0.5, p99: 12.3, processor: 1, heldBytes: 2 ** 27 }
    const [, , line] = serviceTable([{ ...row, atLeast: 20, oursDetail: detail }]).split('\n')
    const cells = (line ?? '').split('|').map((cell) => cell.trim())
    expect(cells.slice(1, -1)).toEqual([
      'x',
      'requests/s',
      '50.0',
      '10.0',
      '5.00',
      '20.0',
      '',
      '',
      '0.50 / 12.3',
      '',
      '1.00 /',
      '128 /',
      'no',
    ])
  })
})
