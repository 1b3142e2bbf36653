/** Sizes as people write them: every spelling is read as QEMU reads it. */
import { describe, expect, it } from 'vitest'
import { isHexWithSuffix, parseSize, readOptions, scanSize } from '../../src/index.ts'
import { describeWith } from '../support/process.ts'
import { tryQemuImg } from '../support/qemu.ts'

const plain =
  '0 00 -0 1 010 08 512 1000 9007199254740992 9223372036854775807 9223372036854775808 18446744073709551615 18446744073709551616 ' +
  '99999999999999999999k 99999999999999999999 99999999999999999999Z 99999999999999999999.5k'
const suffixes = '1b 1B 3k 3K 3m 3M 3g 3G 3t 3T 3p 3P 1e 1E 1Z 1kk 1kb 1KiB 7E 8E 15E 16E 16384P 010k k E 1_000 1,5k ١'
const hex =
  '0x0 0x10 0X1F 0x10k 0x1M 0x1p 0x1e 0x1b 0x1ek 0xk 0x 000x1 0x1.5 0x1.5k 0x1.8p3 0xffffffffffffffff 0x8000000000000000 ' +
  '0x10000000000000000 0x10000000000000000k 0x10kk +0x10 -0x10'
const fractions =
  '1.5 1. 1.0 1.0b 1.5b 0.5b .5 .5k .k . 1.k 1.5k 0.1k 0.0009k 0.0004k 3.3M 2.5T 0.3G 1.5e 1.e 1.e2 1.5e3 1.5E+3 1e1 1.1.1k ' +
  '1.000000000000000000000000000000001 1.000000000000000000000000000000001k 0.00000000000000000000001E 7.99999E 15.9999999E 1.-5k'
const signsAndBlanks = [
  '',
  ' ',
  ' 1k',
  '1k ',
  '1 k',
  '\t1k',
  '\n\v\f\r1k',
  '1\u00a0k',
  '\u00a01k',
  '+5',
  '+1k',
  '+.5k',
  '-1k',
  '--5',
  '1.5 k',
]
const words = ['nan', 'inf', 'infinity', '1.5KB', '0b11']
const spellings = [...[plain, suffixes, hex, fractions].flatMap((list) => list.split(' ')), ...signsAndBlanks, ...words]

/** What qemu-img makes of a size: bytes in whole sectors, or what is wrong with it. */
async function asked(text: string): Promise<{ size: string | undefined; warned: boolean }> {
  const { stdout, stderr } = await tryQemuImg(['measure', '-O', 'raw', '--size', text])
  const [, bytes] = /^required size: (\d+)$/m.exec(stdout) ?? []
  const wrong = /Must be between/.test(stderr) ? 'range' : /You may use/.test(stderr) ? 'invalid' : undefined
  return { size: bytes ?? wrong, warned: stderr.includes('Using a multiplier suffix on hex numbers') }
}

/** The same of ours. */
function answered(text: string): { size: string; warned: boolean } {
  const size = scanSize(text)
  // The command's numbers have 63 bits.
  const fault = typeof size === 'string' ? size : size > 0x7fff_ffff_ffff_ffffn ? 'range' : undefined
  const sectors = typeof size === 'string' ? 0n : (size + 511n) / 512n
  return { size: fault ?? String(sectors * 512n), warned: isHexWithSuffix(text) }
}

describeWith(['qemu-img'], 'sizes', () => {
  it.each(spellings)('%j is what it is for qemu-img', async (text) => {
    expect(answered(text)).toEqual(await asked(text))
  })
})

describe('parseSize', () => {
  it('counts bytes exactly, also where QEMU would round up to sectors', () => {
    expect(['1', '1.5k', '0.0009k', '3.3M', '0x1F', '0x10k', '15E'].map((text) => parseSize(text))).toEqual([
      1n,
      1536n,
      1n,
      3460301n,
      31n,
      16384n,
      15n << 60n,
    ])
  })

  it('rounds a fraction that is as good as one up, where QEMU 7.2 loses it', () => {
    expect(parseSize('1.9999999999999999999k')).toBe(2048n)
    expect(scanSize('15.99999999999999999999E')).toBe('range')
  })

  it('takes another unit where none is written', () => {
    expect(parseSize('1.5', 'M')).toBe(1_572_864n)
    expect(parseSize('1b', 'M')).toBe(1n)
  })
})

describe('numbers of options', () => {
  const table = [{ name: 'n', type: 'number', help: '' }] as const
  const read = (text: string): unknown => readOptions(table, [['n', text]]).n

  it.each([
    ['16', 16],
    ['010', 8],
    ['0x10', 16],
    ['+0x10', 16],
    [' 7', 7],
    ['0', 0],
    ['-16', -16],
    ['18446744073709551615', -1],
  ])('%j is %d, as in C', (text, value) => {
    expect(read(text)).toBe(value)
  })

  it.each([
    ['08', "Parameter 'n' expects a number"],
    ['', "Parameter 'n' expects a number"],
    ['1k', "Parameter 'n' expects a number"],
    ['1.0', "Parameter 'n' expects a number"],
    ['18446744073709551616', "Value '18446744073709551616' is too large for parameter 'n'"],
  ])('%j is none', (text, message) => {
    expect(() => read(text)).toThrow(message)
  })
})
