/** Safety of a qcow2 header. Rules: what OpenStack's format inspector refuses, but for its slips: the data-file bit counts in version 3 only, and
 *  extended L2 entries are a feature we know. */
import { checkedSize, type Finding } from './finding.ts'

const versionTwoBytes = 72
const versionThreeBytes = 104
const dataFileBit = 1n << 2n
/** Dirty, corrupt, data file, compression type, extended L2. */
const knownFeatures = 0b11111n

/** @param head The first bytes, beginning with `QFI\xfb`. */
export function inspectQcow2(head: Buffer): Finding {
  const version = head.readUInt32BE(4)
  if (version !== 2 && version !== 3) {
    return { format: 'qcow2', dangers: [`qcow2 version ${version} is not known`] }
  }
  if (head.length < (version === 2 ? versionTwoBytes : versionThreeBytes)) {
    return { format: 'qcow2', dangers: ['the header is cut'] }
  }
  const dangers: string[] = []
  if (head.readBigUInt64BE(8) !== 0n) dangers.push('it names a backing file')
  if (version === 3) {
    const features = head.readBigUInt64BE(72)
    if ((features & dataFileBit) !== 0n) dangers.push('it names an external data file')
    const unknown = features & ~knownFeatures
    if (unknown !== 0n) dangers.push(`it has unknown incompatible features (${unknown.toString(16)} hexadecimal)`)
  }
  return { format: 'qcow2', dangers, virtualSize: checkedSize(head.readBigUInt64BE(24)) }
}
