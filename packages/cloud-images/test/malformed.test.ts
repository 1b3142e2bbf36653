/** Catalogues that are not as they should be: each is an error that names the place, or is read for what it is; nothing else ever happens. */
import { describe, expect, test } from 'vitest'
import { budget, Random, seed, timeFor } from '../../engine/test/support/random.ts'
import { catalogues } from '../src/catalogues.ts'
import { imagesIn, readLines } from '../src/checksums.ts'
import type { ChecksumsLayout, Definition } from '../src/definition.ts'
import { parseJson } from '../src/json.ts'
import type { Mirror } from '../src/mirror.ts'
import type { Reading } from '../src/read.ts'
import { unseen } from '../src/seen.ts'
import { splitClearText } from '../src/signature.ts'
import { readSimplestreams } from '../src/simplestreams.ts'

const ubuntu = catalogues[0] as Definition
const hex = 'ab'.repeat(32)
const item = { ftype: 'disk1.img', path: 'a/b.img', size: 10, sha256: hex }
const product = (over: object = {}, items: object = { one: item }) => ({
  ...{ arch: 'amd64', release: 'noble', version: '24.04', versions: { '20260101': { items } } },
  ...over,
})
const productsOf = (products: unknown, over: object = {}) =>
  JSON.stringify({ format: 'products:1.0', updated: 'Tue, 20 Oct 2026 10:00:00 +0000', products, ...over })
const indexOf = (entry: object = {}, over: object = {}) =>
  JSON.stringify({
    format: 'index:1.0',
    index: { 'x:y': { format: 'products:1.0', datatype: 'image-downloads', path: 'streams/v1/p.json', ...entry } },
    ...over,
  })

/** A mirror of a few texts. */
function readingOf(files: Record<string, string>, warn: (message: string) => void = () => {}): Reading {
  const mirror: Mirror = {
    base: 'memory/',
    get: undefined,
    read: async (path) => (files[path] === undefined ? undefined : Buffer.from(files[path], 'latin1')),
    list: async () => [],
    place: (path) => path,
  }
  const keyring = undefined
  return { definition: ubuntu, stream: 'release', mirror, keyring, seen: unseen, now: new Date('2026-11-01'), warn }
}
const layout = { layout: 'simplestreams', path: '' } as const
const read = (index: string, products: string, warn?: (message: string) => void) =>
  readSimplestreams(readingOf({ 'streams/v1/index.json': index, 'streams/v1/p.json': products }, warn), layout)

const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`

describe('products', () => {
  test.each<[string, string, string, string]>([
    ['no JSON', 'nonsense', 'invalid', 'no JSON'],
    ['JSON that is cut', productsOf({ a: product() }).slice(0, -3), 'invalid', 'no JSON'],
    ['nested too deep', deep(100_000), 'limit', '32 levels'],
    ['nested too deep in a name', `{"a":${deep(40)}}`, 'limit', '32 levels'],
    ['a name twice', '{"format":"products:1.0","format":"index:1.0"}', 'invalid', 'stands twice'],
    ['a name twice, once escaped', '{"products":{"a":{},"\\u0061":{}}}', 'invalid', 'stands twice'],
    [
      'a version twice',
      productsOf({ a: product() }).replace('"20260101":', '"20260101":{"items":{}},"20260101":'),
      'invalid',
      '"20260101" stands twice',
    ],
    ['a list', '[]', 'invalid', 'an object'],
    ['null', 'null', 'invalid', 'an object'],
    ['another format', productsOf({}, { format: 'products:9.0' }), 'invalid', 'rule: "products:1.0"'],
    ['another content id', productsOf({}, { content_id: 'z' }), 'invalid', 'as in the index'],
    ['a time that is none', productsOf({}, { updated: 'soon' }), 'invalid', 'a time'],
    ['a time that is a number', productsOf({}, { updated: 7 }), 'invalid', 'a text'],
    ['no products', productsOf(undefined), 'invalid', 'field products is missing'],
    ['products that are a list', productsOf([]), 'invalid', 'field products'],
    ['a product that is a text', productsOf({ a: 'b' }), 'invalid', 'products["a"]'],
    ['versions that are a number', productsOf({ a: product({ versions: 5 }) }), 'invalid', 'products["a"].versions'],
    ['items that are null', productsOf({ a: product({}, null as never) }), 'invalid', 'items'],
    ['an architecture that is a list', productsOf({ a: product({ arch: [] }) }), 'invalid', 'a text'],
    ['aliases that are a list', productsOf({ a: product({ aliases: ['x'] }) }), 'invalid', 'a text'],
    ['supported that is a text', productsOf({ a: product({ supported: 'yes' }) }), 'invalid', 'true or false'],
    ...[
      '../../etc/passwd',
      'a/../../b',
      '/etc/passwd',
      'https://elsewhere.example/x.img',
      '//elsewhere.example/x.img',
      'file:///etc/passwd',
      'data:,x',
      'a\\..\\b',
      'a/%2e%2e/%2e%2e/b',
      'a//b',
      './a',
      'a/.',
      'a?b',
      'a#b',
      'a\nb',
      'a b',
      'a\u0000b',
      '',
      'x'.repeat(2000),
    ].map((path): [string, string, string, string] => [
      `path ${JSON.stringify(path).slice(0, 40)}`,
      productsOf({ a: product({}, { one: { ...item, path } }) }),
      'denied',
      'outside its own folder',
    ]),
    ['a path that is a number', productsOf({ a: product({}, { one: { ...item, path: 5 } }) }), 'invalid', 'a text'],
    ...[-1, 1.5, '10 bytes', true, 2 ** 60, '99999999999999999999'].map((size): [string, string, string, string] => [
      `size ${JSON.stringify(size)}`,
      productsOf({ a: product({}, { one: { ...item, size } }) }),
      'invalid',
      'bytes, as a whole number',
    ]),
    ...['abcd', `${hex}0`, `${hex.slice(1)}g`, ''].map((sha256): [string, string, string, string] => [
      `digest ${JSON.stringify(sha256)}`.slice(0, 40),
      productsOf({ a: product({}, { one: { ...item, sha256 } }) }),
      'invalid',
      'hexadecimal',
    ]),
    [
      'a digest that is an object',
      productsOf({ a: product({}, { one: { ...item, sha256: {} } }) }),
      'invalid',
      'a text',
    ],
  ])('%s', async (_, products, kind, message) => {
    await expect(read(indexOf(), products)).rejects.toMatchObject({
      name: 'MoraineError',
      kind,
      message: expect.stringContaining(message),
    })
  })

  test('what is missing is left out, with a warning; what is unknown does not matter', async () => {
    const warnings: string[] = []
    const items = {
      good: { ...item, novelty: { a: [1] } },
      'no digest': { ...item, sha256: undefined, md5: '0'.repeat(32) },
      'no size': { ...item, size: undefined },
      'no file': { id: 'ami-1' },
      'a text of digits': { ...item, size: '12' },
    }
    const found = await read(indexOf({}, { more: 1 }), productsOf({ a: product({ extra: null }, items) }), (message) =>
      warnings.push(message),
    )
    expect(found.map((image) => [image.item, image.size])).toEqual([
      ['good', 10],
      ['a text of digits', 12],
    ])
    expect(warnings.join()).toContain('has 2 files without')
  })

  test('names of the language itself are names like others', async () => {
    const text = productsOf({}).replace(
      '"products":{}',
      `"products":${JSON.stringify({ a: product() }).replace('"a"', '"__proto__"')}`,
    )
    const [image] = await read(indexOf(), text)
    expect(image?.product).toBe('__proto__')
    expect(({} as Record<string, unknown>).versions).toBeUndefined()
  })

  test('what stands on a higher level holds below, unless it says otherwise', async () => {
    const own = { ...item, label: 'own', version: '9' }
    const [first, second] = await read(
      indexOf(),
      productsOf({ a: product({ label: 'product' }, { one: item, two: own }) }, { label: 'top', os: 'ubuntu' }),
    )
    expect([first?.label, first?.version, second?.label, second?.version]).toEqual(['product', '24.04', 'own', '9'])
  })

  test('an index that leads elsewhere', async () => {
    for (const path of ['../p.json', 'https://elsewhere.example/p.json', '/p.json']) {
      await expect(read(indexOf({ path }), '{}')).rejects.toMatchObject({ kind: 'denied' })
    }
    await expect(read(indexOf({ path: 'streams/v1/q.json' }), '{}')).rejects.toMatchObject({ kind: 'missing' })
    await expect(read(indexOf({ path: undefined }), '{}')).rejects.toMatchObject({ kind: 'invalid' })
    const many = Object.fromEntries(Array.from({ length: 2000 }, (_, at) => [`c${at}`, { path: 'streams/v1/p.json' }]))
    await expect(read(indexOf({}, { index: many }), '{}')).rejects.toMatchObject({ kind: 'limit' })
  })

  test('many megabytes of brackets and names take no time', () => {
    const started = performance.now()
    expect(() => parseJson('{"a":'.repeat(5_000_000), 'x')).toThrow('32 levels')
    const wide = `{${Array.from({ length: 300_000 }, (_, at) => `"name ${at}":{}`).join()}}`
    parseJson(wide, 'x')
    const blank = ' '.repeat(5_000_000)
    const framed = `-----BEGIN PGP SIGNED MESSAGE-----\n\n${blank}x\n-----BEGIN PGP SIGNATURE-----\n-----END PGP SIGNATURE-----`
    expect(splitClearText(framed, 'x').text).toHaveLength(blank.length + 1)
    const lines = `${`${'a'.repeat(300)}${' '.repeat(3700)}b\n`.repeat(2000)}`
    expect(readLines(lines, 'sha256', 'place', 'f/S')).toEqual([])
    expect(performance.now() - started).toBeLessThan(10_000)
  })
})

describe('files of checksums', () => {
  const lines = (text: string, path = 'f/SHA256SUMS') => readLines(text, 'sha256', 'place', path)
  test('both spellings, comments, other algorithms, and a digest alone', () => {
    expect(lines(`${hex}  a.img\r\n${hex} *b c.img\n\n# note\n`).map(({ name }) => name)).toEqual(['a.img', 'b c.img'])
    expect(lines(`# a: 12 bytes\nSHA256 (a) = ${hex.toUpperCase()}\nMD5 (a) = 00\n`)).toEqual([
      { name: 'a', digest: hex, size: 12 },
    ])
    expect(lines(hex, 'f/disk.qcow2.sha256')).toEqual([{ name: 'disk.qcow2', digest: hex, size: undefined }])
    expect(lines('')).toEqual([])
  })

  test.each<[string, string, string]>([
    ['a digest that is too short', 'abcd  a.img', 'line 1'],
    ['a page of a web server', '<!DOCTYPE html>\n<html>', 'line 1'],
    ['two digests of one name', `${hex}  a\n${'00'.repeat(32)}  a`, 'two digests of a'],
    ['a line that is too long', `${hex}  ${'a'.repeat(5000)}`, 'more than 4096 characters'],
    ['too many lines', '\n'.repeat(100_001), 'more than 100000 lines'],
  ])('%s', (_, text, message) => {
    expect(() => lines(text)).toThrow(message)
  })

  test('names that lead elsewhere never fit, or are refused', () => {
    const open: ChecksumsLayout = {
      ...(catalogues[1]?.streams.release as ChecksumsLayout),
      algorithm: 'sha256',
      file: '^(?<kind>.*)\\.(?<extension>img)$',
    }
    for (const name of ['../x.img', 'a/x.img', '/x.img', '..\\x.img', 'https://e/x.img']) {
      const place = { release: { version: '13' }, serial: '', architecture: 'amd64' }
      const text = { text: `${hex}  ${name}`, place: 'p', path: 'f/S' }
      expect(() => [...imagesIn(readingOf({}), open, place, text, 'f/')]).toThrow('outside its own folder')
    }
  })
})

test('whatever is changed in a catalogue, it is read or refused', { timeout: timeFor(2000) }, async () => {
  const start = seed('catalogues')
  const random = new Random(start)
  const good = {
    'streams/v1/index.json': indexOf(),
    'streams/v1/p.json': productsOf({
      a: product(),
      b: product({ label: 'x' }, { one: item, two: { ...item, ftype: 'vmdk' } }),
    }),
  }
  const pieces = [
    '"',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '\\',
    '../',
    '//',
    'null',
    '1e999',
    '-0',
    '\u0000',
    '\u00ff',
    hex,
    '"path"',
    '"__proto__"',
    '    ',
  ]
  const sums = `${hex}  debian-13-generic-amd64.qcow2\n# a: 5 bytes\nSHA256 (a) = ${hex}\n`
  const outcomes = { read: 0, refused: 0 }
  for (const end = Date.now() + budget(2000); Date.now() < end; ) {
    const files = { ...good }
    const name = random.pick(Object.keys(good)) as keyof typeof good
    files[name] = mutated(files[name], pieces, random)
    const text = mutated(sums, pieces, random)
    for (const attempt of [
      () => readSimplestreams(readingOf(files), layout),
      async () => readLines(text, 'sha256', 'p', 'f/S'),
    ]) {
      try {
        for (const { path } of (await attempt()) as { path?: string }[])
          expect(path ?? '').not.toMatch(/(^|\/)\.\.(\/|$)|^\/|:\/\//)
        outcomes.read++
      } catch (error) {
        expect(error, `MORAINE_SEED=${start}: ${JSON.stringify(files)}`).toMatchObject({ name: 'MoraineError' })
        outcomes.refused++
      }
    }
  }
  // A loop that only ever refuses, or never does, tests nothing.
  expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(10)
})

function mutated(text: string, pieces: readonly string[], random: Random): string {
  let changed = text
  for (let times = random.int(1, 3); times > 0; times--) {
    const at = random.int(0, changed.length)
    const gone = random.pick([0, 0, 1, 1, 5, 40])
    const piece = random.pick(['', random.pick(pieces), changed.slice(at, at + random.int(0, 60))])
    changed = changed.slice(0, at) + piece + changed.slice(at + gone)
  }
  return changed
}
