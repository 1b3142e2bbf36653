/** Small images written by hand, by the formats' specifications and not by the code under test: headers to be bent. */

const MiB = 1024 * 1024

/** Bends bytes that were just written. */
export type Bend = (data: Buffer) => void

const bent = (data: Buffer, bend: Bend | undefined): Buffer => {
  bend?.(data)
  return data
}

/** A qcow2 header of version 3 over a whole, empty image of 1 MiB. */
export function qcow2(bend?: Bend): Buffer {
  const data = Buffer.alloc(256 * 1024)
  data.write('QFI\xfb', 'latin1')
  data.writeUInt32BE(3, 4)
  data.writeUInt32BE(16, 20)
  data.writeBigUInt64BE(BigInt(MiB), 24)
  data.writeUInt32BE(1, 36)
  data.writeBigUInt64BE(196608n, 40)
  data.writeBigUInt64BE(65536n, 48)
  data.writeUInt32BE(1, 56)
  data.writeUInt32BE(4, 96)
  data.writeUInt32BE(112, 100)
  return bent(data, bend)
}

/** qcow version 1 of 1 MiB. */
export function qcow(bend?: Bend): Buffer {
  const data = Buffer.alloc(4096)
  data.write('QFI\xfb', 'latin1')
  data.writeUInt32BE(1, 4)
  data.writeBigUInt64BE(BigInt(MiB), 24)
  data.set([12, 9], 32)
  data.writeBigUInt64BE(48n, 40)
  return bent(data, bend)
}

/** A VMDK descriptor's text. */
export const descriptor = (type = 'monolithicSparse', extents = 'RW 4096 SPARSE "disk.vmdk"', more = ''): string =>
  `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="${type}"\n${more}\n# Extent description\n${extents}\n\nddb.adapterType = "ide"\n`

/** A hosted sparse VMDK of 2 MiB with its descriptor. */
export function vmdk(text = descriptor(), bend?: Bend): Buffer {
  const data = Buffer.alloc(MiB)
  data.write('KDMV', 'latin1')
  data.writeUInt32LE(1, 4)
  data.writeUInt32LE(3, 8)
  data.writeBigUInt64LE(4096n, 12)
  data.writeBigUInt64LE(128n, 20)
  data.writeBigUInt64LE(1n, 28)
  data.writeBigUInt64LE(20n, 36)
  data.writeUInt32LE(512, 44)
  data.writeBigUInt64LE(21n, 48)
  data.writeBigUInt64LE(26n, 56)
  data.writeBigUInt64LE(128n, 64)
  data.set([0x0a, 0x20, 0x0d, 0x0a], 73)
  data.write(text, 512, 'latin1')
  return bent(data, bend)
}

/** A stream-optimized VMDK whose directory is in the footer. `bend` sees header and footer. */
export function streamOptimized(bend?: (data: Buffer, footerAt: number) => void): Buffer {
  const data = vmdk(descriptor('streamOptimized', 'RDONLY 4096 SPARSE "disk.vmdk"'))
  data.writeUInt32LE(3, 4)
  data.writeUInt32LE(0x30001, 8)
  data.writeUInt16LE(1, 77)
  data.writeBigUInt64LE(0n, 48)
  data.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 56)
  const footerAt = data.length - 1024
  data.copy(data, footerAt, 0, 512)
  data.writeBigUInt64LE(200n, footerAt + 56)
  data.writeBigUInt64LE(1n, footerAt - 512)
  data.writeUInt32LE(3, footerAt - 512 + 12)
  bend?.(data, footerAt)
  return data
}

/** Writes a VHD checksum over `bytes` into its field. */
export function sumVhd(bytes: Buffer, field: number): void {
  bytes.writeUInt32BE(0, field)
  bytes.writeUInt32BE(~bytes.reduce((sum, byte) => sum + byte, 0) >>> 0, field)
}

/** A VHD footer for `size` bytes, believed on its current size. */
export function vhdFooter(size: number, type: number, bend?: Bend): Buffer {
  const footer = Buffer.alloc(512)
  footer.write('conectix')
  footer.writeUInt32BE(2, 8)
  footer.writeUInt32BE(0x10000, 12)
  footer.writeBigUInt64BE(type === 2 ? 0xffff_ffff_ffff_ffffn : 512n, 16)
  footer.write('win Wi2k', 28)
  footer.write('win ', 28)
  footer.writeBigUInt64BE(BigInt(size), 40)
  footer.writeBigUInt64BE(BigInt(size), 48)
  footer.writeUInt32BE(type, 60)
  bend?.(footer)
  sumVhd(footer, 64)
  return footer
}

/** A fixed VHD of 1 MiB around `content`. */
export function fixedVhd(content: Buffer = Buffer.alloc(MiB), bend?: Bend): Buffer {
  return Buffer.concat([content, vhdFooter(content.length, 2, bend)])
}

/** A dynamic VHD of 4 MiB, empty. `bend` sees the dynamic disk header before it is summed. */
export function dynamicVhd(type = 3, bend?: Bend): Buffer {
  const footer = vhdFooter(4 * MiB, type)
  const header = Buffer.alloc(1024)
  header.write('cxsparse')
  header.fill(255, 8, 16)
  header.writeBigUInt64BE(1536n, 16)
  header.writeUInt32BE(0x10000, 24)
  header.writeUInt32BE(2, 28)
  header.writeUInt32BE(2 * MiB, 32)
  bend?.(header)
  sumVhd(header, 36)
  return Buffer.concat([footer, header, Buffer.alloc(512, 255), footer])
}

/** A dynamic VDI of 2 MiB, empty. */
export function vdi(bend?: Bend): Buffer {
  const data = Buffer.alloc(1024)
  data.write('<<< Oracle VM VirtualBox Disk Image >>>\n')
  data.writeUInt32LE(0xbeda107f, 64)
  data.writeUInt32LE(0x10001, 68)
  data.writeUInt32LE(0x190, 72)
  data.writeUInt32LE(1, 76)
  data.writeUInt32LE(512, 340)
  data.writeUInt32LE(1024, 344)
  data.writeUInt32LE(512, 360)
  data.writeBigUInt64LE(BigInt(2 * MiB), 368)
  data.writeUInt32LE(MiB, 376)
  data.writeUInt32LE(2, 384)
  data.fill(255, 512, 520)
  return bent(data, bend)
}

/** QED of 1 MiB. */
export function qed(bend?: Bend): Buffer {
  const data = Buffer.alloc(320 * 1024)
  data.write('QED\0', 'latin1')
  data.writeUInt32LE(65536, 4)
  data.writeUInt32LE(4, 8)
  data.writeUInt32LE(1, 12)
  data.writeBigUInt64LE(65536n, 40)
  data.writeBigUInt64LE(BigInt(MiB), 48)
  return bent(data, bend)
}

/** An ISO 9660 volume. */
export function iso(bend?: Bend, sectors = 32): Buffer {
  const data = Buffer.alloc(sectors * 2048)
  data[16 * 2048] = 1
  data.write('CD001\x01', 16 * 2048 + 1, 'latin1')
  data.write('CONFIG-2', 16 * 2048 + 40)
  data.writeUInt32LE(sectors, 16 * 2048 + 80)
  data.writeUInt32BE(sectors, 16 * 2048 + 84)
  data.writeUInt16LE(2048, 16 * 2048 + 128)
  data[17 * 2048] = 255
  data.write('CD001\x01', 17 * 2048 + 1, 'latin1')
  return bent(data, bend)
}

/** A UDF volume without ISO 9660. */
export function udf(): Buffer {
  const data = Buffer.alloc(64 * 2048)
  for (const [index, id] of ['BEA01', 'NSR03', 'TEA01'].entries())
    data.write(`${id}\x01`, (16 + index) * 2048 + 1, 'latin1')
  return data
}

/** Puts a boot sector with one Linux partition into `data`. */
export function withMbr(data: Buffer = Buffer.alloc(MiB), bend?: Bend): Buffer {
  data.set([0x80, 0, 2, 0, 0x83, 0, 3, 0, 1, 0, 0, 0, 7, 0, 0, 0], 446)
  data.writeUInt16BE(0x55aa, 510)
  return bent(data, bend)
}

function crc32(bytes: Buffer): number {
  let crc = -1
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb88320
  }
  return ~crc >>> 0
}

/** A disk of 1 MiB with a protective MBR and a GPT of one partition. `bend` works before the checksums. */
export function gpt(bend?: Bend): Buffer {
  const data = Buffer.alloc(MiB)
  data.set([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 7, 0, 0], 446)
  data.writeUInt16BE(0x55aa, 510)
  data.write('EFI PART', 512)
  data.writeUInt32LE(0x10000, 520)
  data.writeUInt32LE(92, 524)
  data.writeBigUInt64LE(1n, 536)
  data.writeBigUInt64LE(2047n, 544)
  data.writeBigUInt64LE(34n, 552)
  data.writeBigUInt64LE(2014n, 560)
  data.write('0123456789abcdef', 568)
  data.writeBigUInt64LE(2n, 584)
  data.writeUInt32LE(128, 592)
  data.writeUInt32LE(128, 596)
  data.write('AF3DC60F83848E4779', 1024, 'hex')
  data.writeBigUInt64LE(64n, 1024 + 32)
  data.writeBigUInt64LE(1000n, 1024 + 40)
  bend?.(data)
  data.writeUInt32LE(crc32(data.subarray(1024, 1024 + 16384)), 600)
  data.writeUInt32LE(0, 528)
  data.writeUInt32LE(crc32(data.subarray(512, 604)), 528)
  return data
}

/** A LUKS1 header with one key slot over 1 MiB. */
export function luks1(bend?: Bend): Buffer {
  const data = Buffer.alloc(2 * MiB)
  data.write('LUKS\xba\xbe\0\x01aes', 'latin1')
  data.write('xts-plain64', 40)
  data.write('sha256', 72)
  data.writeUInt32BE(2048, 104)
  data.writeUInt32BE(64, 108)
  data.writeUInt32BE(1000, 164)
  data.write('3a2f0d5e-1111-4c58-8f4e-d4a3b1e1c2d0', 168)
  data.writeUInt32BE(0x00ac71f3, 208)
  data.writeUInt32BE(1_000_000, 212)
  return bent(data, bend)
}

/** A LUKS2 header with its metadata. */
export function luks2(
  json = '{"segments":{"0":{"offset":"1048576","size":"dynamic"}},"config":{}}',
  bend?: Bend,
): Buffer {
  const data = Buffer.alloc(2 * MiB)
  data.write('LUKS\xba\xbe\0\x02', 'latin1')
  data.writeBigUInt64BE(16384n, 8)
  data.write('backup', 24)
  data.write(json, 4096)
  return bent(data, bend)
}

/** Parallels, extended magic, of 4 MiB. */
export function parallels(bend?: Bend): Buffer {
  const data = Buffer.alloc(MiB)
  data.write('WithouFreSpacExt')
  data.writeUInt32LE(2, 16)
  data.writeUInt32LE(2048, 28)
  data.writeUInt32LE(4, 32)
  data.writeBigUInt64LE(8192n, 36)
  return bent(data, bend)
}

/** A growing Bochs redolog of 1 MiB. */
export function bochs(bend?: Bend): Buffer {
  const data = Buffer.alloc(8192)
  data.write('Bochs Virtual HD Image')
  data.write('Redolog', 32)
  data.write('Growing', 48)
  data.writeUInt32LE(0x20000, 64)
  data.writeUInt32LE(512, 68)
  data.writeUInt32LE(512, 72)
  data.writeUInt32LE(1, 76)
  data.writeUInt32LE(4096, 80)
  data.writeBigUInt64LE(BigInt(MiB), 88)
  return bent(data, bend)
}

/** cloop with two blocks. */
export function cloop(bend?: Bend): Buffer {
  const data = Buffer.alloc(4096)
  data.write('#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n')
  data.writeUInt32BE(65536, 128)
  data.writeUInt32BE(2, 132)
  for (const [index, offset] of [160, 300, 400].entries()) data.writeBigUInt64BE(BigInt(offset), 136 + index * 8)
  return bent(data, bend)
}

/** A UDIF image: only its trailer tells. `bend` sees the trailer. */
export function dmg(bend?: Bend, content: Buffer = Buffer.alloc(64 * 1024, 'data')): Buffer {
  const trailer = Buffer.alloc(512)
  trailer.write('koly')
  trailer.writeUInt32BE(4, 4)
  trailer.writeUInt32BE(512, 8)
  trailer.writeBigUInt64BE(32768n, 0x20)
  trailer.writeUInt32BE(1, 0x38)
  trailer.writeUInt32BE(1, 0x3c)
  trailer.writeBigUInt64BE(32768n, 0xd8)
  trailer.writeBigUInt64BE(1000n, 0xe0)
  trailer.writeBigUInt64BE(2048n, 0x1ec)
  bend?.(trailer)
  return Buffer.concat([content, trailer])
}

/** An ASIF header. */
export function asif(bend?: Bend): Buffer {
  const data = Buffer.alloc(4096)
  data.write('shdw')
  data.writeUInt32BE(1, 4)
  data.writeUInt32BE(512, 8)
  data.writeBigUInt64BE(2048n, 48)
  data.writeBigUInt64BE(1n << 32n, 56)
  data.writeUInt32BE(MiB, 64)
  data.writeUInt16BE(512, 68)
  return bent(data, bend)
}

/** A tar of the given members, as ustar. */
export function tar(members: readonly { name: string; data?: Buffer; type?: string }[]): Buffer {
  const parts: Buffer[] = []
  for (const { name, data = Buffer.alloc(0), type = '0' } of members) {
    const header = Buffer.alloc(512)
    header.write(name, 0, 100, 'latin1')
    header.write('0000644\0', 100)
    header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124)
    header.write('00000000000\0        ', 136)
    header.write(type, 156)
    header.write('ustar\x0000', 257, 'latin1')
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    parts.push(header, data, Buffer.alloc((512 - (data.length % 512)) % 512))
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)])
}

/** An OVF descriptor that names `files`. */
export const ovf = (files: readonly string[], before = ''): Buffer =>
  Buffer.from(
    `<?xml version="1.0"?>\n${before}<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">` +
      `<References>${files.map((file, index) => `<File ovf:id="f${index}" ovf:href="${file}"/>`).join('')}</References></Envelope>`,
  )
