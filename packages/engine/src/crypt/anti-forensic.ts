/** The anti-forensic splitter: a key is spread over so much material that losing any part of it loses the key. Source: LUKS1 On-Disk Format Specification 1.2.3, section 2.4. */

/** A digest of parts. */
type Hash = (...parts: readonly Uint8Array[]) => Uint8Array

/** Mixes all bytes of a block with each other: pieces of a digest's length, each hashed with its number. */
function diffuse(block: Uint8Array, hash: Hash): void {
  const number = new Uint8Array(4)
  const view = new DataView(number.buffer)
  const digestBytes = hash(number).length
  for (let at = 0, piece = 0; at < block.length; at += digestBytes, piece++) {
    view.setUint32(0, piece)
    const part = block.subarray(at, Math.min(at + digestBytes, block.length))
    part.set(hash(number, part).subarray(0, part.length))
  }
}

function addTo(block: Uint8Array, stripe: Uint8Array): void {
  for (let i = 0; i < block.length; i++) (block[i] as number) ^= stripe[i] as number
}

/** Spreads a key over `stripes` times its length. `random` gives as many bytes as it is asked for. */
export function splitKey(
  key: Uint8Array,
  stripes: number,
  hash: Hash,
  random: (count: number) => Uint8Array,
): Uint8Array {
  const material = new Uint8Array(key.length * stripes)
  material.set(random(key.length * (stripes - 1)))
  const block = new Uint8Array(key.length)
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    addTo(block, material.subarray(stripe * key.length, (stripe + 1) * key.length))
    diffuse(block, hash)
  }
  addTo(block, key)
  material.set(block, key.length * (stripes - 1))
  return material
}

/** The key that material of `splitKey` holds. */
export function mergeKey(material: Uint8Array, keyBytes: number, stripes: number, hash: Hash): Uint8Array {
  const block = new Uint8Array(keyBytes)
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    addTo(block, material.subarray(stripe * keyBytes, (stripe + 1) * keyBytes))
    diffuse(block, hash)
  }
  addTo(block, material.subarray((stripes - 1) * keyBytes, stripes * keyBytes))
  return block
}
