/** XXH64, the content checksum of zstd frames. Fact: RFC 8878, section 3.1.1 (low 32 bits, seed 0), and the xxHash specification. */

const prime1 = 0x9e3779b185ebca87n
const prime2 = 0xc2b2ae3d27d4eb4fn
const prime3 = 0x165667b19e3779f9n
const prime4 = 0x85ebca77c2b2ae63n
const prime5 = 0x27d4eb2f165667c5n

/* Engines turn arithmetic directly inside `asUintN(64, …)`, and shifts by constants, into machine words: some 15 times faster. Hence the
 * spelled-out lines in the hot loop. */
const wrap = BigInt.asUintN

/** XXH64 of `bytes` with seed 0. */
export function xxh64(bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const end = bytes.length
  let at = end - (end % 32)
  let hash = wrap(64, (end < 32 ? prime5 : mixStripes(view, at)) + BigInt(end))
  for (; at + 8 <= end; at += 8) {
    hash = wrap(64, rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * prime1 + prime4)
  }
  if (at + 4 <= end) {
    hash = wrap(64, rotate(hash ^ wrap(64, BigInt(view.getUint32(at, true)) * prime1), 23n) * prime2 + prime3)
    at += 4
  }
  for (; at < end; at++) hash = wrap(64, rotate(hash ^ wrap(64, BigInt(bytes[at] as number) * prime5), 11n) * prime1)
  hash = wrap(64, (hash ^ (hash >> 33n)) * prime2)
  hash = wrap(64, (hash ^ (hash >> 29n)) * prime3)
  return hash ^ (hash >> 32n)
}

function mixStripes(view: DataView, end: number): bigint {
  let a = wrap(64, prime1 + prime2)
  let b = prime2
  let c = 0n
  let d = wrap(64, -prime1)
  for (let at = 0; at < end; at += 32) {
    a = wrap(64, a + wrap(64, view.getBigUint64(at, true) * prime2))
    b = wrap(64, b + wrap(64, view.getBigUint64(at + 8, true) * prime2))
    c = wrap(64, c + wrap(64, view.getBigUint64(at + 16, true) * prime2))
    d = wrap(64, d + wrap(64, view.getBigUint64(at + 24, true) * prime2))
    a = wrap(64, (wrap(64, a << 31n) | wrap(64, a >> 33n)) * prime1)
    b = wrap(64, (wrap(64, b << 31n) | wrap(64, b >> 33n)) * prime1)
    c = wrap(64, (wrap(64, c << 31n) | wrap(64, c >> 33n)) * prime1)
    d = wrap(64, (wrap(64, d << 31n) | wrap(64, d >> 33n)) * prime1)
  }
  let hash = wrap(64, rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n))
  for (const lane of [a, b, c, d]) hash = wrap(64, (hash ^ round(0n, lane)) * prime1 + prime4)
  return hash
}

function round(sum: bigint, lane: bigint): bigint {
  return wrap(64, rotate(wrap(64, sum + lane * prime2), 31n) * prime1)
}

function rotate(value: bigint, by: bigint): bigint {
  return wrap(64, (value << by) | (value >> (64n - by)))
}
