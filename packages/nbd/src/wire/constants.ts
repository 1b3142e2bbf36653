/** The numbers of the NBD protocol. Source: NetworkBlockDevice/nbd, doc/proto.md. All integers on the wire are big-endian. */

/** What both handshakes begin with: `NBDMAGIC`. */
export const initialMagic = 0x4e42444d41474943n
/** `IHAVEOPT`: newstyle, and what stands before every option. */
export const optionMagic = 0x49484156454f5054n
/** What stands in its place in the old handshake. */
export const oldstyleMagic = 0x00420281861253n
/** Before every reply to an option. */
export const optionReplyMagic = 0x0003e889045565a9n
/** Before every request. */
export const requestMagic = 0x25609513
/** Before a simple reply. */
export const simpleReplyMagic = 0x67446698
/** Before a chunk of a structured reply. */
export const structuredReplyMagic = 0x668e33ef

/** Bits of the server's handshake flags and of the client's. */
export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const

/** Options of the handshake. */
export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const

/** What QEMU calls the options in its messages. */
export const optionNames: Readonly<Record<number, string>> = {
  1: 'export name',
  2: 'abort',
  3: 'list',
  5: 'starttls',
  6: 'info',
  7: 'go',
  8: 'structured reply',
  9: 'list meta context',
  10: 'set meta context',
  11: 'extended headers',
}

/** Replies to options; those with bit 31 are errors. */
export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: 0x8000_0001,
  policy: 0x8000_0002,
  invalid: 0x8000_0003,
  platform: 0x8000_0004,
  tlsRequired: 0x8000_0005,
  unknown: 0x8000_0006,
  shutdown: 0x8000_0007,
  blockSizeRequired: 0x8000_0008,
  tooBig: 0x8000_0009,
} as const

/** Kinds of information about an export. */
export const information = { export: 0, name: 1, description: 2, blockSize: 3 } as const

/** Transmission flags of an export. */
export const exportFlag = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  rotational: 16,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConn: 256,
  sendResize: 512,
  sendCache: 1024,
  sendFastZero: 2048,
} as const

/** Requests. */
export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const

/** Flags of requests: forced unit access, keep the space, do not fragment, one extent, only if fast. */
export const commandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const

/** Chunks of structured replies; those with bit 15 are errors. */
export const chunk = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const

/** The last chunk of a reply. */
export const chunkDone = 1

/** Bits of an extent in the context `base:allocation`. */
export const allocationState = { hole: 1, zero: 2 } as const

/** The context of what is allocated and what reads as zeros. */
export const allocationContext = 'base:allocation'
/** QEMU's context of the depth in the backing chain at which content is allocated. */
export const depthContext = 'qemu:allocation-depth'
/** QEMU's contexts of dirty bitmaps: the bitmap's name follows. */
export const bitmapContext = 'qemu:dirty-bitmap:'

/** Bytes of a request's header. */
export const requestBytes = 28
/** Bytes of a simple reply's header; of a chunk's the first. */
export const simpleReplyBytes = 16
/** Bytes of a chunk's header. */
export const chunkHeaderBytes = 20

/** Longest name of an export, of a context, and longest text, in bytes. */
export const stringBytes = 4096
/** Bytes of data in one request that every server takes where it says nothing else. */
export const usualPayload = 32 * 1024 * 1024
/** The port that is meant when none is named. */
export const defaultPort = 10_809
