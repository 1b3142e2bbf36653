/** ISO 9660 and UDF volumes. Facts: ECMA-119 (volume descriptors), ECMA-167 (recognition sequence), El Torito 1.0. */
import { viewOf } from '../../bytes/integers.ts'
import { fields, latin1, name, stands } from '../bytes.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const sector = 2048
const firstSector = 16
/** How far the descriptors are followed; all of it lies in the head. */
const lastSector = 47
const identifiers = new Set(['CD001', 'BEA01', 'NSR02', 'NSR03', 'TEA01', 'BOOT2', 'CDW02'])

/** The inspector of optical volumes. */
export const iso: Inspector = { name: 'iso', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  const volume = readVolume(head)
  if (volume === undefined) return
  const { primary, udf } = volume
  const first = latin1(head, firstSector * sector + 1, firstSector * sector + 6)
  const report = found('iso', 'optical', `"${first}" at 32769`)
  if (udf !== undefined && udf !== first) report.evidence(`"${udf}" in the volume recognition sequence`)
  report.finding.subformat = primary === undefined ? 'udf' : udf === undefined ? 'iso9660' : 'iso9660 and udf'
  for (const [fact, present] of Object.entries({ joliet: volume.joliet, elTorito: volume.bootable })) {
    if (present) report.fact(fact, true)
  }
  if (primary === undefined) {
    if (udf === undefined)
      report.unknown('header', 'it has no primary volume descriptor', { field: 'type', rule: '1 in one of them' })
    else report.passed('header', 'it has a volume recognition sequence')
    return
  }
  const blockBytes = primary.getUint16(128, true)
  const blocks = primary.getUint32(80, true)
  report.virtualSize(blocks * blockBytes)
  const label = name(latin1(head, volume.primaryAt + 40, volume.primaryAt + 72))
  if (label !== '') report.fact('volume', label)
  checkPrimary(report, primary, blockBytes)
  const { size } = yield* atEnd()
  if (blocks * blockBytes > size) {
    const rule = `at most the ${size} bytes of the file`
    report.unknown('header', 'the volume passes the end of the file', {
      field: 'volume space size',
      value: blocks,
      rule,
    })
  } else
    report.passed('header', 'its primary volume descriptor is sound', { field: 'volume space size', value: blocks })
}

function checkPrimary(report: Report, primary: DataView, blockBytes: number): void {
  if (![512, 1024, 2048].includes(blockBytes)) {
    const rule = '512, 1024 or 2048'
    report.unknown('header', 'its blocks have an odd size', { field: 'logical block size', value: blockBytes, rule })
  }
  if (primary.getUint32(80, true) !== primary.getUint32(84)) {
    const value = primary.getUint32(84)
    const rule = `${primary.getUint32(80, true)}, as in the little-endian half`
    report.unknown('header', 'a number is written twice, and differently', { field: 'volume space size', value, rule })
  }
}

interface Volume {
  primary: DataView | undefined
  primaryAt: number
  udf: string | undefined
  joliet: boolean
  bootable: boolean
}

function readVolume(head: Uint8Array): Volume | undefined {
  const volume: Volume = { primary: undefined, primaryAt: 0, udf: undefined, joliet: false, bootable: false }
  for (let index = firstSector; index <= lastSector; index++) {
    const at = index * sector
    const id = latin1(head, at + 1, at + 6)
    if (!identifiers.has(id)) return index === firstSector ? undefined : volume
    if (id.startsWith('NSR')) volume.udf = id
    if (id !== 'CD001') continue
    const type = head[at]
    if (type === 0 && stands(head, 'EL TORITO SPECIFICATION', at + 7)) volume.bootable = true
    if (type === 1 && volume.primary === undefined) {
      volume.primary = at + sector <= head.length ? viewOf(head.subarray(at, at + sector)) : fields(head, at, sector)
      volume.primaryAt = at
    }
    if (type === 2 && /^%\/[@CE]/.test(latin1(head, at + 88, at + 91))) volume.joliet = true
  }
  return volume
}
