import { decodeName, encodeName } from '@moraine/engine'
import fc from 'fast-check'
import { expect, it } from 'vitest'

it.each([
  ['a plain name', [0x61, 0x2e, 0x62], 'a.b'],
  ['UTF-8', [0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x92, 0xbe], 'é€💾'],
  ['a byte order mark', [0xef, 0xbb, 0xbf, 0x61], '\uFEFFa'],
  ['Latin-1', [0x63, 0x61, 0x66, 0xe9], 'caf\uDCE9'],
  ['what is cut off', [0x61, 0xe2, 0x82], 'a\uDCE2\uDC82'],
  ['half of a surrogate pair', [0xed, 0xb3, 0xa9], '\uDCED\uDCB3\uDCA9'],
  ['longer than it need be', [0xc0, 0xaf], '\uDCC0\uDCAF'],
])('%s is read, and written as it was', (_what, bytes, text) => {
  expect(decodeName(Uint8Array.from(bytes))).toBe(text)
  expect([...encodeName(text)]).toEqual(bytes)
})

it('gives back any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      expect([...encodeName(decodeName(bytes))]).toEqual([...bytes])
    }),
  )
})

it('is UTF-8 for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(encodeName(text)).toEqual(new TextEncoder().encode(text))
    }),
  )
})
