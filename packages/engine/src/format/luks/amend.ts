/** Adding and erasing the passwords of a container. Rules and words: QEMU 7.2's `amend`; key material is written over before its slot is given up. */
import { randomBytes } from '#platform'
import { type ByteStore, type ErrorKind, isStore, MoraineError } from '../../core/index.ts'
import { slotCount } from '../../crypt/luks-header.ts'
import { activateSlot, eraseSlot, type LuksPlace, openSlot, type UnlockedLuks } from '../../crypt/luks-keys.ts'
import type { KeyChange, KeyChangeContext } from '../format.ts'
import { cryptoOf, secretOf } from '../key-secret.ts'
import { defaultIterTime } from './cipher-options.ts'

type Fail = (kind: ErrorKind, reason: string, field: string, value?: number) => never

/** Changes key slots of a container that was opened for writing, with a password of it.
 *  @throws MoraineError `invalid` for a change that contradicts itself, `denied` for one that would lose the last password, `missing` for a secret that is not there. */
export async function amendLuks(luks: UnlockedLuks, change: KeyChange, context: KeyChangeContext): Promise<void> {
  const { at } = luks
  const { file } = at
  const fail: Fail = (kind, reason, field, value) => {
    throw new MoraineError(kind, reason, { ...at.place, field, value })
  }
  if (!isStore(file)) return fail('denied', 'the image was not opened for writing', 'mode')
  const place = { ...at, file }
  if (change.state === 'active') await activate(luks, place, change, context, fail)
  else if (change.state === 'inactive') await erase(luks, place, change, context, fail)
  else fail('invalid', "Parameter 'state' is missing", 'state')
}

type WritablePlace = LuksPlace & { file: ByteStore }

async function activate(
  { header, masterKey }: UnlockedLuks,
  at: WritablePlace,
  change: KeyChange,
  context: KeyChangeContext,
  fail: Fail,
): Promise<void> {
  const { newSecret, oldSecret, keyslot, iterTime = defaultIterTime } = change
  if (newSecret === undefined) return fail('invalid', "'new-secret' is required to activate a keyslot", 'new-secret')
  if (oldSecret !== undefined) {
    fail('invalid', "'old-secret' must not be given when activating keyslots", 'old-secret')
  }
  const index = keyslot ?? header.slots.findIndex((slot) => !slot.active)
  if (keyslot === undefined && index < 0) fail('invalid', "Can't add a keyslot - all keyslots are in use", 'keyslot')
  checkIndex(index, fail)
  if (header.slots[index]?.active === true && change.force !== true) {
    fail('denied', `Refusing to overwrite active keyslot ${index} - please erase it first`, 'keyslot', index)
  }
  const password = secretOf(context.secrets, newSecret, 'new-secret', at.place)
  const wanted = { password, iterTime }
  await activateSlot(cryptoOf(context, at.place), at, header, index, masterKey, wanted, randomBytes)
}

async function erase(
  { header }: UnlockedLuks,
  at: WritablePlace,
  change: KeyChange,
  context: KeyChangeContext,
  fail: Fail,
): Promise<void> {
  const { keyslot, oldSecret, force = false } = change
  for (const [name, value] of [
    ['new-secret', change.newSecret],
    ['iter-time', change.iterTime],
  ] as const) {
    if (value !== undefined) fail('invalid', `'${name}' must not be given when erasing keyslots`, name)
  }
  const password = oldSecret === undefined ? undefined : secretOf(context.secrets, oldSecret, 'old-secret', at.place)
  if (keyslot !== undefined) checkIndex(keyslot, fail)
  const holds = async (index: number): Promise<boolean> =>
    password === undefined || (await openSlot(cryptoOf(context, at.place), at, header, index, password)) !== undefined
  const active = header.slots.filter((slot) => slot.active).length
  let erased: number[] = []
  if (keyslot !== undefined) {
    if (!(await holds(keyslot))) {
      const reason = `Given keyslot ${keyslot} doesn't contain the given old password for erase operation`
      fail('denied', reason, 'old-secret', keyslot)
    }
    if (header.slots[keyslot]?.active !== true && !force) {
      fail('invalid', `Given keyslot ${keyslot} is already erased (inactive) `, 'keyslot', keyslot)
    }
    if (active === 1 && !force) {
      const reason = `Attempt to erase the only active keyslot ${keyslot} which will erase all the data in the image irreversibly - refusing operation`
      fail('denied', reason, 'keyslot', keyslot)
    }
    erased = [keyslot]
  } else if (password !== undefined) {
    for (let index = 0; index < slotCount; index++) {
      if (header.slots[index]?.active === true && (await holds(index))) erased.push(index)
    }
    if (erased.length === 0) {
      fail('denied', 'No keyslots match given (old) password for erase operation', 'old-secret')
    }
    if (erased.length === active && !force) {
      const reason =
        'All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation'
      fail('denied', reason, 'old-secret')
    }
  } else {
    const reason =
      'To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given'
    fail('invalid', reason, 'keyslot')
  }
  for (const index of erased) await eraseSlot(at, header, index, randomBytes)
}

function checkIndex(index: number, fail: Fail): void {
  if (Number.isInteger(index) && index >= 0 && index < slotCount) return
  const shown = index < 0 ? index + 2 ** 32 : index
  fail('invalid', `Invalid keyslot ${shown} specified, must be between 0 and ${slotCount - 1}`, 'keyslot', index)
}
