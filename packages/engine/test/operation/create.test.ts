/** Creating: sizes are checked and rounded, what was resolved is told, targets are left alone when a rule is broken. */
import { expect, it } from 'vitest'
import { allFormats } from '../../src/format/all.ts'
import { createImage, type DiskFormat, MemoryStore, raw } from '../../src/index.ts'
import { resolveCreation } from '../../src/operation/create.ts'

const qcow2 = allFormats.find(({ name }) => name === 'qcow2') as DiskFormat

function target() {
  const store = new MemoryStore()
  return { store, sibling: () => Promise.reject(new Error('no further file was expected')) }
}

it('rounds the size up to whole sectors, and tells the one that was asked', async () => {
  const into = target()
  expect(await createImage(into, raw, { size: 1000n })).toEqual({ size: 1024, options: { size: 1000n } })
  expect(into.store.size).toBe(1024)
})

it('tells every option in the order of the format', async () => {
  const created = await createImage(target(), qcow2, { size: 1_048_576n, options: { cluster_size: 4096n } })
  expect(Object.keys(created.options)).toEqual([
    'cluster_size',
    'extended_l2',
    'compression_type',
    'size',
    'lazy_refcounts',
    'refcount_bits',
  ])
  expect(created.options.cluster_size).toBe(4096n)
})

it.each([
  ['a negative size', -1n, 'invalid'],
  ['more than QEMU takes', 2n ** 63n, 'invalid'],
  ['more than a number holds', 2n ** 53n, 'limit'],
  ['a size that only rounding makes too large', BigInt(Number.MAX_SAFE_INTEGER), 'limit'],
])('refuses %s', async (_what, size, kind) => {
  for (const format of [raw, qcow2]) {
    const into = target()
    await expect(createImage(into, format, { size })).rejects.toMatchObject({ kind, field: 'size' })
    expect(into.store.size).toBe(0)
  }
})

it('keeps to the limit of the caller', async () => {
  const limits = { virtualSize: 1024 * 1024 }
  const request = createImage(target(), raw, { size: 2n * 1024n * 1024n, limits })
  await expect(request).rejects.toMatchObject({ kind: 'limit' })
})

it('refuses a format that cannot be created', () => {
  const { create: _create, ...rest } = raw
  expect(() => resolveCreation(rest, { size: 512n })).toThrowError(/does not support image creation/)
})
