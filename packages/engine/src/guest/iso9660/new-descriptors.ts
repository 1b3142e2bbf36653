/** The volume descriptors of new volumes. Facts: ECMA-119 4th edition, section 8; Joliet specification. */
import { viewOf } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import { sectorBytes } from './layout.ts'
import { ascii, longDate, setBoth16, setBoth32, utf16be, writeRecord } from './new-fields.ts'
import type { NewTreeLayout, NewVolumeLayout } from './new-layout.ts'
import type { NewVolumeTexts } from './new-volume.ts'

/** Where the texts stand, and how long they are. */
const places: Readonly<Record<keyof NewVolumeTexts, readonly [at: number, length: number]>> = {
  systemId: [8, 32],
  volumeId: [40, 32],
  volumeSetId: [190, 128],
  publisher: [318, 128],
  preparer: [446, 128],
  application: [574, 128],
  copyrightFile: [702, 37],
  abstractFile: [739, 37],
  bibliographicFile: [776, 37],
}

/** From sector 16 on: primary, boot record, Joliet, terminator.
 *  @throws MoraineError `invalid` for texts that do not fit. */
export function writeDescriptors(layout: NewVolumeLayout, texts: NewVolumeTexts): Uint8Array {
  for (const [key, [, length]] of Object.entries(places)) {
    const text = texts[key as keyof NewVolumeTexts] ?? ''
    if (text.length <= length && /^[\x20-\x7e]*$/.test(text)) continue
    throw new MoraineError('invalid', `the ${key} of a new volume breaks a rule`, {
      format: 'iso',
      field: key,
      value: text,
      rule: `at most ${length} characters of ASCII`,
    })
  }
  const [primary, joliet] = layout.trees.map((tree) => writeVolume(layout, tree, texts))
  const parts = [primary, layout.catalog === undefined ? undefined : bootRecord(layout.catalog), joliet, head(255)]
  const present = parts.filter((part) => part !== undefined)
  const bytes = new Uint8Array(present.length * sectorBytes)
  for (const [index, part] of present.entries()) bytes.set(part, index * sectorBytes)
  return bytes
}

function head(type: number): Uint8Array {
  const bytes = new Uint8Array(sectorBytes)
  bytes.set([type, ...ascii('CD001'), 1])
  return bytes
}

function bootRecord(catalog: number): Uint8Array {
  const bytes = head(0)
  bytes.set(ascii('EL TORITO SPECIFICATION'), 7)
  viewOf(bytes).setUint32(71, catalog, true)
  return bytes
}

function writeVolume(layout: NewVolumeLayout, tree: NewTreeLayout, texts: NewVolumeTexts): Uint8Array {
  const isJoliet = tree.kind === 'joliet'
  const bytes = head(isJoliet ? 2 : 1)
  const view = viewOf(bytes)
  for (const [key, [at, length]] of Object.entries(places)) {
    const text = texts[key as keyof NewVolumeTexts] ?? ''
    if (isJoliet) bytes.set(utf16be(text.padEnd(length).slice(0, length >> 1)), at)
    else bytes.set(ascii(text.padEnd(length)), at)
  }
  // Level 3 of UCS-2.
  if (isJoliet) bytes.set(ascii('%/E'), 88)
  setBoth32(view, 80, layout.blocks)
  setBoth16(view, 120, 1)
  setBoth16(view, 124, 1)
  setBoth16(view, 128, sectorBytes)
  setBoth32(view, 132, tree.pathTableBytes)
  view.setUint32(140, tree.little, true)
  view.setUint32(148, tree.big)
  const [root] = tree.directories
  const modified = layout.root.entry.modified ?? layout.time
  const identifier = Uint8Array.of(0)
  const systemUse = new Uint8Array(0)
  const record = { identifier, block: root?.block ?? 0, size: root?.bytes ?? 0, modified, flags: 2, systemUse }
  bytes.set(writeRecord(record, layout.room), 156)
  for (const [at, time] of [
    [813, layout.time],
    [830, layout.time],
    [847, undefined],
    [864, undefined],
  ] as const) {
    bytes.set(longDate(time), at)
  }
  bytes[881] = 1
  return bytes
}
