/** ISO 9660 and UDF volumes. Facts: ECMA-119 (volume descriptors), ECMA-167 (recognition sequence), El Torito 1.0. */
import { isoKind, readIsoVolume } from '../../format/iso/volume.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

/** The inspector of optical volumes. */
export const iso: Inspector = { name: 'iso', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  const volume = readIsoVolume(head)
  if (volume === undefined) return
  const { identifier: first, primary, udf, label } = volume
  const report = found('iso', 'optical', `"${first}" at 32769`)
  if (udf !== undefined && udf !== first) report.evidence(`"${udf}" in the volume recognition sequence`)
  report.finding.subformat = isoKind(volume)
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
