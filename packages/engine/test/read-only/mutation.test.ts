/** Formats that are only read, under mutation: fields anywhere, files cut anywhere; writing and repairing are refused, and nothing else happens. */
import { deflateSync } from 'node:zlib'
import { testMutation } from '../support/block-robustness.ts'
import { Random } from '../support/random.ts'
import { bochsOf, cloopOf, dmgOf } from './builders.ts'

const size = 1 << 20
const content = new Random(1).bytes(size).fill(0, 100_000, 300_000).fill(7, 500_000, 700_000)
const half = size / 2
const pieces = [0, half].map((at) => ({
  type: 0x8000_0005,
  size: half,
  stored: deflateSync(content.subarray(at, at + half)),
}))

/** Copies of a Buffer's slices would share its bytes. */
const plain = (image: Buffer): Uint8Array => new Uint8Array(image)

testMutation(
  { format: 'bochs' },
  [bochsOf(content, 65_536, 1), bochsOf(content, 65_536, 2)].map(plain),
  [
    [0, 100],
    [64, 40],
    // The catalog, and the bitmap of the first extent.
    [512, 64],
    [576, 16],
  ],
  { ms: 3000 },
)

testMutation(
  { format: 'cloop' },
  [cloopOf(content, 65_536), cloopOf(content, 4096)].map(plain),
  [
    [0, 136],
    [128, 8],
    [136, 136],
    [300, 2000],
  ],
  { ms: 3000 },
)

const plist = dmgOf(pieces, 'plist')
const fork = dmgOf(pieces, 'fork')
const metadata =
  Math.max(...[plist, fork].map((image) => image.length)) - pieces.reduce((sum, { stored }) => sum + stored.length, 0)

testMutation(
  { format: 'dmg' },
  [plist, fork].map(plain),
  [
    [-512, 512],
    [-512 + 0x20, 16],
    [-512 + 0xd8, 16],
    // The tables before the trailer.
    [-metadata, metadata],
    [0, 300],
  ],
  { ms: 3000 },
)
