/** Creating a VHD. The layout is that of `qemu-img create` 7.2: footer copy, header, table, footer; or the disk and its footer. */
import { divideUp, roundUp } from '../../bytes/integers.ts'
import { throwIfCancelled } from '../../core/index.ts'
import type { CreatePlan, CreateTarget } from '../format.ts'
import { defaultBlockSize, footerBytes, headerBytes, newDynamicHeader, newFooter } from './layout.ts'
import { planVhd } from './options.ts'

const chunkBytes = 1024 * 1024

/** Writes a new, empty image into the target's store. Its size may be larger than asked: see `force_size`.
 *  @throws MoraineError `invalid` for options that do not fit, `limit` past 2040 GiB. */
export async function createVhd({ store }: CreateTarget, plan: CreatePlan): Promise<void> {
  const image = planVhd(plan.size, plan.options)
  const footer = newFooter(image)
  if (store.kind !== 'device' && store.size > 0) await store.resize(0)
  if (image.fixed) {
    if (store.kind !== 'device') await store.resize(image.size + footerBytes)
    else await store.zero(0, image.size, 'unmap')
    await store.write(image.size, footer)
    await store.flush()
    return
  }
  const entries = divideUp(image.size, defaultBlockSize)
  let at = footerBytes
  for (const chunk of [newDynamicHeader(entries), ...emptyTable(entries)]) {
    throwIfCancelled(plan.signal, store.name)
    await store.write(at, chunk)
    at += chunk.length
  }
  await store.flush()
  // Cut short before, there is no image yet; either footer makes it one.
  await store.write(at, footer)
  await store.write(0, footer)
  await store.flush()
}

/** Bytes of a table on disk. */
export function tableBytes(entries: number): number {
  return roundUp(entries * 4, 512)
}

/** Where blocks begin in a new image. */
export function firstBlockOf(entries: number): number {
  return footerBytes + headerBytes + tableBytes(entries)
}

/** A table without blocks, in pieces. */
export function* emptyTable(entries: number): Iterable<Uint8Array> {
  const length = tableBytes(entries)
  for (let start = 0; start < length; start += chunkBytes) {
    yield new Uint8Array(Math.min(chunkBytes, length - start)).fill(0xff)
  }
}
