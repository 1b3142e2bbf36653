/** The content identity of an image that is written: it changes with the first write, so that disks made over the old content notice. */
import { type ByteStore, readPadded } from '../../core/index.ts'
import { newCid, replaceCid } from './descriptor.ts'
import { fault, type VmdkImage } from './image.ts'
import { bounds } from './layout.ts'

/** Gives an image another content identity, in its file and in memory. */
export async function renewCid(image: VmdkImage, store: ByteStore): Promise<void> {
  const cid = newCid()
  await writeIdentity(image, store, 'CID', cid)
  image.descriptor.cid = cid
}

/** Records another content identity of the parent. */
export async function recordParentCid(image: VmdkImage, store: ByteStore, cid: number): Promise<void> {
  await writeIdentity(image, store, 'parentCID', cid)
  image.descriptor.parentCid = cid
}

async function writeIdentity(
  { place }: VmdkImage,
  store: ByteStore,
  key: 'CID' | 'parentCID',
  cid: number,
): Promise<void> {
  const old = new Uint8Array(place.length ?? Math.min(store.size, bounds.descriptorBytes))
  await readPadded(store, place.offset, old)
  const text = replaceCid(old, cid, key)
  if (text === undefined || (place.length !== undefined && text.length > place.length)) {
    throw fault(store, 'invalid', 'there is no room for a new content identity in the descriptor', key)
  }
  const bytes = new Uint8Array(Math.max(old.length, text.length))
  bytes.set(text)
  await store.write(place.offset, changedPart(old, bytes))
}

/** The new bytes up to the last sector that differs: one sector where the length stays. */
export function changedPart(old: Uint8Array, bytes: Uint8Array): Uint8Array {
  let end = bytes.length
  while (end > 0 && end <= old.length && old[end - 1] === bytes[end - 1]) end--
  return bytes.subarray(0, Math.min(bytes.length, Math.ceil(end / 512) * 512))
}
