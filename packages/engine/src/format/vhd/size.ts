/** How large a VHD is: its geometry, and which of its two sizes its creator meant. */
import type { VhdSizeRule } from '../format.ts'
import { type Footer, type Geometry, mostSectors, saturatedSectors, sectorBytes } from './layout.ts'

/** Creators whose disks are as large as their current size says. */
const bySize = new Set(['win ', 'qem2', 'd2v ', 'd2v\0', 'CTXS', 'tap\0', 'wa\0\0', 'vbox'])
/** Creators whose disks end where their geometry ends. */
const byGeometry = new Set(['vpc ', 'vs  ', 'qemu'])

/** Whether disks of a creator end where their geometry ends. */
export function isSizedByGeometry(creator: string): boolean {
  return byGeometry.has(creator)
}

/** Sectors of a geometry. */
export function sectorsOf({ cylinders, heads, sectors }: Geometry): number {
  return cylinders * heads * sectors
}

/** Virtual size in bytes, by the footer. Hyper-V, Disk Management, Disk2vhd, XenServer, XenConverter, Azure, VirtualBox and `qem2` are believed on the
 *  current size; Virtual PC, Virtual Server and `qemu` on the geometry, unless it is saturated (65535 × 16 × 255 sectors). Of a creator that is not
 *  known the larger is taken where `held` bytes are there for it, lest the end of the disk is lost; QEMU takes the geometry. With a rule that one counts,
 *  save that a saturated geometry says nothing.
 *  Source: VHD specification 1.0, "Hard Disk Footer Format"; the list of creators as QEMU reads it, and what the vendors' own tools show. */
export function virtualSizeOf({ creator, geometry, currentSize }: Footer, held: number, rule?: VhdSizeRule): number {
  const sectors = sectorsOf(geometry)
  // Past 2^53 it is Infinity, and stays so.
  const size = Math.floor(currentSize / sectorBytes) * sectorBytes
  const chs = sectors * sectorBytes
  if (rule !== undefined) return rule === 'chs' && sectors !== saturatedSectors ? chs : size
  if (sectors === saturatedSectors || bySize.has(creator)) return size
  return !byGeometry.has(creator) && size > chs && size <= held ? size : chs
}

/** The geometry that the specification gives a disk of so many sectors. Source: VHD specification 1.0, appendix "CHS Calculation". */
export function geometryOf(totalSectors: number): Geometry {
  const total = Math.min(totalSectors, saturatedSectors)
  if (total >= 65_535 * 16 * 63) return split(total, 16, 255)
  let sectors = 17
  let tracks = Math.floor(total / sectors)
  let heads = Math.max(4, Math.floor((tracks + 1023) / 1024))
  if (tracks >= heads * 1024 || heads > 16) {
    sectors = 31
    heads = 16
    tracks = Math.floor(total / sectors)
  }
  if (tracks >= heads * 1024) {
    sectors = 63
    heads = 16
  }
  return split(total, heads, sectors)
}

function split(total: number, heads: number, sectors: number): Geometry {
  return { cylinders: Math.floor(Math.floor(total / sectors) / heads), heads, sectors }
}

/** Geometry and size in bytes of a new disk that holds `size` bytes: as QEMU does it, the size is raised to the next geometry, or kept with a
 *  saturated geometry where `exact`. Undefined when it is past 2040 GiB. */
export function newSizeOf(size: number, exact: boolean): { size: number; geometry: Geometry } | undefined {
  const wanted = Math.ceil(size / sectorBytes)
  let geometry: Geometry = exact
    ? { cylinders: 65_535, heads: 16, sectors: 255 }
    : { cylinders: 0, heads: 0, sectors: 0 }
  for (let more = 0; sectorsOf(geometry) < wanted && sectorsOf(geometry) < saturatedSectors; more++) {
    geometry = geometryOf(wanted + more)
  }
  const sectors = sectorsOf(geometry) === saturatedSectors ? wanted : sectorsOf(geometry)
  return sectors > mostSectors ? undefined : { size: sectors * sectorBytes, geometry }
}
