/** Extents that ESX makes, and nobody else writes, built by hand: COWD (vmfsSparse) and seSparse; with the descriptors that name them. */

/** A COWD redo log of 20 sectors; the fourth and the fifth hold data. */
export function cowdExtent(): Uint8Array {
  const bytes = new Uint8Array(64 * 512)
  const view = new DataView(bytes.buffer)
  bytes.set(new TextEncoder().encode('COWD'))
  for (const [i, value] of [1, 3, 20, 1, 4, 1, 64].entries()) view.setUint32(4 + i * 4, value, true)
  view.setUint32(4 * 512, 5, true)
  view.setUint32(5 * 512 + 3 * 4, 40, true)
  view.setUint32(5 * 512 + 4 * 4, 41, true)
  return bytes.fill(7, 40 * 512, 42 * 512)
}

/** A seSparse extent of four grains: the first is the sixth of those stored, then one of zeros, one that is unmapped, and the first of those stored. */
export function seSparseExtent(): Uint8Array {
  const bytes = new Uint8Array(200 * 512)
  const view = new DataView(bytes.buffer)
  const fields: [number, bigint][] = [
    [0, 0xcafebaben],
    [1, 0x200000001n],
    [2, 32n],
    [3, 8n],
    [4, 64n],
    [10, 1n],
    [16, 2n],
    [17, 1n],
    [18, 3n],
    [24, 100n],
  ]
  for (const [index, value] of fields) view.setBigUint64(index * 8, value, true)
  view.setBigUint64(512, 0xcafecafen, true)
  view.setBigUint64(2 * 512, 0x1000000000000000n, true)
  for (const [i, entry] of [
    0x3005000000000000n,
    0x2000000000000000n,
    0x1000000000000000n,
    0x3000000000000000n,
  ].entries()) {
    view.setBigUint64(3 * 512 + i * 8, entry, true)
  }
  return bytes.fill(5, 140 * 512, 148 * 512).fill(6, 100 * 512, 108 * 512)
}

/** A descriptor of these extent lines. */
export function descriptorOf(createType: string, ...lines: string[]): string {
  const head = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=1234567 ',
    'parentCID=ffffffff',
    `createType="${createType}"`,
  ]
  return `${[...head, ...lines].join('\r\n')}\r\n`
}
