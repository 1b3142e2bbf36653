/** Structures of VHDX files, changed by hand: written apart from the engine's own code, after MS-VHDX. */

const items = {
  fileParameters: '3767a1ca36fa434db3b633f0aa44e76b',
  virtualDiskSize: '2442a52f1bcd7648b2115dbed83bf4b8',
  virtualDiskId: 'ab12cabee6b2234593efc309e000c746',
  logicalSectorSize: '1dbf41816fa90947ba47f233a8faab5f',
  physicalSectorSize: 'c748a3cd5d4471449cc9e9885251c556',
  parentLocator: '2d5fd3a80bb34d45abf7d3d84834ab0c',
}

/** Name of a metadata item. */
export type ItemName = keyof typeof items

const viewOf = (image: Uint8Array): DataView => new DataView(image.buffer, image.byteOffset, image.byteLength)
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Where the entry of an item stands in the metadata table. */
export function itemEntryAt(image: Uint8Array, name: ItemName): number {
  const metadata = metadataAt(image)
  for (let at = metadata + 32; at < metadata + 32 + 32 * 16; at += 32) {
    if (hex(image.subarray(at, at + 16)) === items[name]) return at
  }
  throw new Error(`the image has no ${name}`)
}

/** Where the metadata region begins, in images whose second region it is. */
export function metadataAt(image: Uint8Array): number {
  return Number(viewOf(image).getBigUint64(196_608 + 16 + 32 + 16, true))
}

/** Where the content of an item stands. */
export function itemAt(image: Uint8Array, name: ItemName): number {
  return metadataAt(image) + viewOf(image).getUint32(itemEntryAt(image, name) + 16, true)
}

/** Replaces an item's content: a number in its first four bytes, or all of it. */
export function setItem(image: Uint8Array, name: ItemName, content: number | Uint8Array): void {
  const at = itemAt(image, name)
  if (typeof content === 'number') viewOf(image).setUint32(at, content, true)
  else {
    image.set(content, at)
    viewOf(image).setUint32(itemEntryAt(image, name) + 20, content.length, true)
  }
}

/** Sets an entry of the table of blocks, which is the first region. */
export function setEntry(image: Uint8Array, index: number, value: bigint): void {
  const table = Number(viewOf(image).getBigUint64(196_608 + 16 + 16, true))
  viewOf(image).setBigUint64(table + index * 8, value, true)
}

/** A parent locator with these pairs. */
export function locatorOf(pairs: Record<string, string>): Uint8Array {
  const texts = Object.entries(pairs).map((pair) => pair.map((text) => Buffer.from(text, 'utf16le')))
  const head = Buffer.alloc(20 + texts.length * 12)
  Buffer.from('b7ef4ab09ed1814ab78925b8e9445913', 'hex').copy(head)
  head.writeUInt16LE(texts.length, 18)
  let end = head.length
  for (const [i, pair] of texts.entries()) {
    for (const [part, text] of pair.entries()) {
      head.writeUInt32LE(end, 20 + i * 12 + part * 4)
      head.writeUInt16LE(text.length, 28 + i * 12 + part * 2)
      end += text.length
    }
  }
  return Buffer.concat([head, ...texts.flat()])
}

/** Corrects the checksum of a structure that was changed; it stands at byte 4. CRC-32C, bit by bit. */
export function fixChecksum(image: Uint8Array, at: number, length: number): void {
  viewOf(image).setUint32(at + 4, 0, true)
  let crc = -1
  for (const byte of image.subarray(at, at + length)) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  viewOf(image).setUint32(at + 4, ~crc >>> 0, true)
}
