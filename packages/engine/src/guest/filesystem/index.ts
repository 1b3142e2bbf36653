/** File systems and volumes of every kind that is known. */
import type { GuestContent } from '../content.ts'
import type { Reading } from '../reading.ts'
import { readBtrfs, readErofs, readExt, readF2fs, readMinix, readSmall, readSquashfs, readXfs } from './linux.ts'
import { readJfs, readNilfs, readReiser, readZfs } from './more-linux.ts'
import { type Regions, readRegions } from './regions.ts'
import { readUdf } from './udf.ts'
import { readLuks, readLvm, readOptical, readRaid, readSwap } from './volume.ts'
import { readExfat, readFat, readNtfs } from './windows.ts'

/** Those that the regions are enough for, surest first. */
const simple: readonly ((regions: Regions) => GuestContent | undefined)[] = [
  readLuks,
  readXfs,
  readSquashfs,
  readErofs,
  readF2fs,
  readExt,
  readBtrfs,
  readReiser,
  readJfs,
  readNilfs,
  readZfs,
  readLvm,
  readRaid,
  readSwap,
  readSmall,
  readMinix,
  readOptical,
]

const further: readonly ((regions: Regions) => Reading<GuestContent | undefined>)[] = [
  readNtfs,
  readExfat,
  readFat,
  readUdf,
]

/** All that the bytes show: usually one. A file system may leave the signature of an older one standing. */
export function* readFileSystems(): Reading<GuestContent[]> {
  const regions = yield* readRegions()
  const found = simple.flatMap((read) => read(regions) ?? [])
  for (const read of further) {
    const content = yield* read(regions)
    if (content !== undefined) found.push(content)
  }
  return found
}
