/** Whether an image's clusters are mostly holes of its file. Source: the test QEMU makes before it asks the file (`qcow2_detect_metadata_preallocation`). */
import { type ByteSource, isMoraineError } from '../../core/index.ts'
import type { Qcow2Image } from './image.ts'
import { RefcountReader } from './refcount-reader.ts'

/** True when clearly more clusters are counted than the file has bytes for. */
export async function isMostlyPreallocated(image: Qcow2Image): Promise<boolean> {
  const { file, geometry } = image
  const real = (await allocatedOf(file)) / geometry.clusterSize
  const threshold = Math.max(Math.floor((real * 10) / 9), Math.floor(real) + 2)
  const end = Math.ceil(file.size / geometry.clusterSize)
  if (end < threshold) return false
  const counts = await RefcountReader.open(image)
  let used = 0
  for (let cluster = 0; cluster < end && used < threshold; cluster++) {
    const count = counts.get(cluster)
    if ((count instanceof Promise ? await count : count) > 0) used++
  }
  return used >= threshold
}

/** What the host spends on a file; its size where nobody can tell. */
async function allocatedOf(file: ByteSource): Promise<number> {
  try {
    return (await file.allocatedSize?.()) ?? file.size
  } catch (error) {
    if (isMoraineError(error, 'unsupported')) return file.size
    throw error
  }
}
