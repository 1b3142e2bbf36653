/** What reading a catalogue needs, whatever its layout: files with their signatures, judged once in one place. */
import { MoraineError } from '@moraine/engine'
import type { Definition } from './definition.ts'
import type { Mirror } from './mirror.ts'
import type { Seen } from './seen.ts'
import { type Keyring, type Signed, splitClearText, verifyBeside, verifyInside } from './signature.ts'

/** How a catalogue is read. */
export interface Reading {
  readonly definition: Definition
  /** As in `release`. */
  readonly stream: string
  readonly mirror: Mirror
  /** Undefined: nothing is verified, and what is not signed is taken. */
  readonly keyring: Keyring | undefined
  readonly seen: Seen
  readonly now: Date
  /** Told what is not wrong and yet worth knowing. */
  readonly warn: (message: string) => void
  readonly signal?: AbortSignal | undefined
}

/** A text of a catalogue. */
export interface SignedText {
  readonly text: string
  /** Where it was found, for messages. */
  readonly place: string
  readonly path: string
  /** Undefined when nothing was verified. */
  readonly signed: Signed | undefined
}

/** Bytes of one file of a catalogue: Ubuntu's daily products have about ten million. */
export const mostCatalogueBytes = 64 * 1024 * 1024
const mostSignatureBytes = 64 * 1024

/** Reads a text that is signed around itself.
 *  @throws MoraineError `denied`, `invalid`; undefined when it is not there */
export async function readInside(reading: Reading, path: string): Promise<SignedText | undefined> {
  const { mirror, keyring, now, signal } = reading
  const bytes = await mirror.read(path, mostCatalogueBytes, signal)
  if (bytes === undefined) return undefined
  const place = mirror.place(path)
  if (keyring === undefined)
    return { text: splitClearText(decode(bytes, place), place).text, place, path, signed: undefined }
  return { ...(await verifyInside(bytes, keyring, place, now)), place, path }
}

/** Reads a text whose signature stands beside it under one of some names.
 *  @throws MoraineError `denied`, also when there is no signature, `invalid`; undefined when there is no such text */
export async function readBeside(
  reading: Reading,
  path: string,
  signatures: readonly string[],
): Promise<SignedText | undefined> {
  const { mirror, keyring, now, signal } = reading
  const bytes = await mirror.read(path, mostCatalogueBytes, signal)
  if (bytes === undefined) return undefined
  const place = mirror.place(path)
  if (keyring === undefined) return { text: decode(bytes, place), place, path, signed: undefined }
  for (const name of signatures) {
    const signature = await mirror.read(name, mostSignatureBytes, signal)
    if (signature === undefined) continue
    const signed = await verifyBeside(bytes, signature, keyring, mirror.place(name), now)
    return { text: decode(bytes, place), place, path, signed }
  }
  return refuseUnsigned(place, signatures)
}

/** @throws MoraineError `denied`, always */
export function refuseUnsigned(place: string, names: readonly string[]): never {
  throw new MoraineError('denied', `it is not signed: there is no ${names.map(lastPart).join(' and no ')}`, {
    path: place,
    hint: 'With --unsigned nothing is verified but the digests, which then only say that the image is the one of this mirror.',
  })
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new MoraineError('invalid', 'this is no text in UTF-8', { path, cause: error })
  }
}

const millisecondsOfADay = 24 * 60 * 60 * 1000

/** Compares the time of a catalogue with what was seen before and with the clock.
 *  @throws MoraineError `denied` for one that is older than what was seen, or of a day to come */
export function checkAge(
  { definition, mirror, seen, now, warn }: Reading,
  id: string,
  updated: Date,
  place: string,
): void {
  if (updated.getTime() > now.getTime() + millisecondsOfADay) {
    throw new MoraineError('denied', `the catalogue is of ${updated.toISOString()}, which is yet to come`, {
      path: place,
      hint: 'Is the clock of this machine right?',
    })
  }
  seen.note(`${mirror.base} ${id}`, updated, place)
  const days = Math.floor((now.getTime() - updated.getTime()) / millisecondsOfADay)
  if (days > definition.staleDays) {
    warn(`${place} was updated ${days} days ago: newer images may be held back`)
  }
}
