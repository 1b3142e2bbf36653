/** Small images of the formats that nothing writes, made from raw content: independent of the engine. */
import { deflateSync } from 'node:zlib'

/** A cloop image of whole blocks. */
export function cloopOf(content: Uint8Array, blockSize: number): Buffer {
  const blocks = content.length / blockSize
  const packed = Array.from({ length: blocks }, (_, i) =>
    deflateSync(content.subarray(i * blockSize, (i + 1) * blockSize)),
  )
  const head = Buffer.alloc(136 + (blocks + 1) * 8)
  head.write('#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n')
  head.writeUInt32BE(blockSize, 128)
  head.writeUInt32BE(blocks, 132)
  let at = head.length
  for (let i = 0; i <= blocks; i++) {
    head.writeBigUInt64BE(BigInt(at), 136 + i * 8)
    at += packed[i]?.length ?? 0
  }
  return Buffer.concat([head, ...packed])
}

/** A Bochs image, version 1 or 2, in which sectors of zeros are absent, and so are extents of them. Extents are stored last first. */
export function bochsOf(content: Uint8Array, extentSize: number, version: 1 | 2): Buffer {
  const extents = Math.ceil(content.length / extentSize)
  const catalog = Buffer.alloc(extents * 4, 0xff)
  const bitmapBytes = Math.max(1, extentSize / 512 / 8)
  const bitmapRoom = Math.ceil(bitmapBytes / 512) * 512
  const data: Buffer[] = []
  for (let extent = extents - 1; extent >= 0; extent--) {
    const bytes = Buffer.alloc(extentSize)
    bytes.set(content.subarray(extent * extentSize, (extent + 1) * extentSize))
    if (bytes.every((byte) => byte === 0)) continue
    const bits = Buffer.alloc(bitmapRoom)
    for (let i = 0; i < extentSize / 512; i++) {
      const sector = bytes.subarray(i * 512, (i + 1) * 512)
      if (sector.every((byte) => byte === 0)) sector.fill(0xdd)
      else bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7))
    }
    catalog.writeUInt32LE(data.length / 2, extent * 4)
    data.push(bits, bytes)
  }
  const head = Buffer.alloc(512)
  head.write('Bochs Virtual HD Image', 0)
  head.write('Redolog', 32)
  head.write('Growing', 48)
  head.writeUInt32LE(version << 16, 64)
  head.writeUInt32LE(512, 68)
  head.writeUInt32LE(extents, 72)
  head.writeUInt32LE(bitmapBytes, 76)
  head.writeUInt32LE(extentSize, 80)
  head.writeBigUInt64LE(BigInt(content.length), version === 1 ? 84 : 88)
  return Buffer.concat([head, catalog, ...data])
}

/** A chunk of a DMG: a type, guest bytes, and what is stored for them. */
export interface DmgPiece {
  type: number
  size: number
  stored?: Uint8Array
}

/** A DMG image of one table of chunks, with a property list or a resource fork. */
export function dmgOf(pieces: readonly DmgPiece[], metadata: 'plist' | 'fork', odd = 0): Buffer {
  const table = Buffer.alloc(204 + (pieces.length + 1) * 40)
  table.write('mish')
  table.writeUInt32BE(1, 4)
  table.writeUInt32BE(pieces.length + 1, 200)
  const data: Uint8Array[] = []
  let guest = 0
  let host = 0
  for (const [i, { type, size, stored = new Uint8Array() }] of pieces.entries()) {
    const at = 204 + i * 40
    table.writeUInt32BE(type, at)
    table.writeBigUInt64BE(BigInt(guest / 512), at + 8)
    table.writeBigUInt64BE(BigInt(size / 512), at + 16)
    table.writeBigUInt64BE(BigInt(host), at + 24)
    table.writeBigUInt64BE(BigInt(stored.length), at + 32)
    data.push(stored)
    guest += size
    host += stored.length
  }
  table.writeUInt32BE(0xffff_ffff, 204 + pieces.length * 40)
  table.writeBigUInt64BE(BigInt(guest / 512), 204 + pieces.length * 40 + 8)
  table.writeBigUInt64BE(BigInt(guest / 512), 16)
  let info: Buffer
  if (metadata === 'plist') {
    const lines =
      table
        .toString('base64')
        .match(/.{1,60}/g)
        ?.join('\n\t') ?? ''
    info = Buffer.from(
      `<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>\n\t${lines}\n\t</data></dict></array></dict></dict></plist>`,
    )
  } else {
    info = Buffer.alloc(256 + 4)
    info.writeUInt32BE(256, 0)
    info.writeUInt32BE(table.length + 4, 8)
    info.writeUInt32BE(table.length, 256)
    info = Buffer.concat([info, table, Buffer.alloc(50)])
  }
  const koly = Buffer.alloc(512)
  koly.write('koly')
  koly.writeUInt32BE(4, 4)
  koly.writeUInt32BE(512, 8)
  koly.writeBigUInt64BE(BigInt(host), 0x20)
  const at = metadata === 'plist' ? 0xd8 : 0x28
  koly.writeBigUInt64BE(BigInt(host), at)
  koly.writeBigUInt64BE(BigInt(info.length), at + 8)
  koly.writeBigUInt64BE(BigInt(guest / 512), 0x1ec)
  const body = Buffer.concat([...data, info])
  // The trailer of most files does not lie on a sector; with `odd` the length is what is asked for, modulo 512.
  const room = (512 + odd - (body.length % 512)) % 512
  return Buffer.concat([body, Buffer.alloc(odd === 0 ? 0 : room), koly])
}
