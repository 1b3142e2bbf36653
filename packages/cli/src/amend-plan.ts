/** What `amend --dry-run` tells. The change is made for real, in memory: so it fails as it would, and what comes out is what would. */
import { allFormats, closedGate, type DetailValue, type Disk, openDisk } from '@moraine/engine'
import { cryptoLibrary } from './crypto-library.ts'
import type { WritePlan } from './dry-run.ts'

type Facts = Record<string, DetailValue>

/** Makes the change on an image whose writes stay in memory, closes it and says what became of it.
 *  @throws what `change` throws */
export async function planAmendment(disk: Disk, filename: string, change: () => Promise<void>): Promise<WritePlan> {
  const { file } = disk
  const before = { size: disk.size, file: file.size, facts: factsOf(disk) }
  let after: { size: number; facts: Facts }
  try {
    await change()
    // The opened image keeps some of what it was opened with, so it is looked at once more. Nothing of this is to be closed twice.
    const { format } = disk
    const again = await openDisk(file, {
      formats: allFormats,
      format,
      purpose: 'info',
      gate: closedGate,
      crypto: cryptoLibrary(),
    })
    after = { size: again.size, facts: factsOf(again) }
  } finally {
    await disk.close()
  }
  const plan: WritePlan = { operation: 'amend', target: filename, format: disk.format, writes: [], lost: [] }
  if (after.size !== before.size) {
    plan['virtual-size'] = after.size
    plan.writes.push(`the disk has ${after.size} bytes, ${difference(after.size - before.size)}`)
    if (after.size < before.size) plan.lost.push(`what lies from byte ${after.size} on, up to ${before.size}`)
  }
  compareFacts(before.facts, after.facts, plan)
  if (file.size !== before.file) {
    plan.writes.push(`the file has ${file.size} bytes, ${difference(file.size - before.file)}`)
  }
  if (plan.writes.length === 0) plan.writes.push('nothing: all of it is so already')
  return plan
}

function difference(bytes: number): string {
  return bytes > 0 ? `${bytes} more` : `${-bytes} less`
}

function factsOf(disk: Disk): Facts {
  return structuredClone(disk.info().details?.data ?? {})
}

function compareFacts(before: Facts, after: Facts, plan: WritePlan): void {
  for (const [name, value] of Object.entries(after)) {
    if (typeof value === 'object' || value === before[name]) continue
    const was = before[name]
    plan.writes.push(`${name} is ${shown(value)}${was === undefined ? '' : `, and was ${shown(was)}`}`)
  }
  if (before['lazy-refcounts'] === true && after['lazy-refcounts'] === undefined) {
    plan.writes.push('lazy-refcounts is off, and was on')
  }
  const left = new Set(names(after.bitmaps))
  for (const name of names(before.bitmaps)) if (!left.has(name)) plan.lost.push(`the dirty bitmap '${name}'`)
  compareSlots(slots(before), slots(after), plan)
}

function shown(value: DetailValue): string {
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)
}

function names(bitmaps: DetailValue | undefined): string[] {
  if (!Array.isArray(bitmaps)) return []
  return bitmaps.flatMap((one) => (typeof one === 'object' && 'name' in one ? [String(one.name)] : []))
}

/** The key slots of a container, or of the one in a qcow2: what is known of each, as text; undefined where it is empty. */
function slots({ slots: own, encrypt }: Facts): (string | undefined)[] {
  const list = own ?? (typeof encrypt === 'object' && 'slots' in encrypt ? encrypt.slots : undefined)
  if (!Array.isArray(list)) return []
  return list.map((slot) =>
    typeof slot === 'object' && 'active' in slot && slot.active === true ? JSON.stringify(slot) : undefined,
  )
}

function compareSlots(
  before: readonly (string | undefined)[],
  after: readonly (string | undefined)[],
  { writes, lost }: WritePlan,
): void {
  for (const [at, slot] of after.entries()) {
    const was = before[at]
    if (slot === was) continue
    if (slot === undefined) {
      writes.push(`key slot ${at} is erased`)
      lost.push(`the password in key slot ${at}`)
    } else {
      writes.push(`key slot ${at} takes the new password`)
      if (was !== undefined) lost.push(`the password that key slot ${at} holds now`)
    }
  }
  if (before.some((slot) => slot !== undefined) && after.every((slot) => slot === undefined)) {
    lost.push('all data: no password opens the image any more')
  }
}
