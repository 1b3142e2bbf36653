/** Opens a catalogue: whose it is, where it is read from, and who may vouch for it. */
import { MoraineError } from '@moraine/engine'
import { findCatalogue, shippedKeyring } from './catalogues.ts'
import type { Definition } from './definition.ts'
import { type Get, type Mirror, openMirror, type Patience } from './mirror.ts'
import type { Reading } from './read.ts'
import { type Seen, unseen } from './seen.ts'
import { streamOf } from './select.ts'
import { type Keyring, readKeyring } from './signature.ts'

/** What a catalogue is opened with. */
export interface OpenCatalogue {
  /** The name of a known catalogue, or a definition. */
  readonly distribution: string | Definition
  /** Default: the first of the definition. */
  readonly stream?: string | undefined
  /** URL or folder; default: the publisher's. */
  readonly mirror?: string | undefined
  readonly get: Get
  /** Default: the keys that are shipped. `unsigned`: nothing is verified. */
  readonly keyring?: { readonly bytes: string | Uint8Array; readonly name: string } | 'unsigned' | undefined
  readonly seen?: Seen | undefined
  readonly now?: Date | undefined
  readonly warn?: ((message: string) => void) | undefined
  readonly patience?: Patience | undefined
  readonly signal?: AbortSignal | undefined
}

/** @throws MoraineError `missing` for a catalogue or stream that there is not, `denied` where no key is shipped and none given, `invalid` for a keyring or mirror that is none */
export async function openCatalogue(options: OpenCatalogue): Promise<Reading> {
  const { distribution, get, mirror, patience, signal } = options
  const definition = typeof distribution === 'string' ? findCatalogue(distribution) : distribution
  const stream = options.stream ?? Object.keys(definition.streams)[0] ?? ''
  streamOf(definition, stream)
  const opened: Mirror = openMirror(mirror ?? definition.base, get, patience)
  return {
    definition,
    stream,
    mirror: opened,
    keyring: await keyringOf(definition, options.keyring),
    seen: options.seen ?? unseen,
    now: options.now ?? new Date(),
    warn: options.warn ?? (() => {}),
    signal,
  }
}

async function keyringOf(definition: Definition, given: OpenCatalogue['keyring']): Promise<Keyring | undefined> {
  if (given === 'unsigned') return undefined
  if (given !== undefined) return await readKeyring(given.bytes, given.name)
  const shipped = await shippedKeyring(definition)
  if (shipped !== undefined) return await readKeyring(shipped, `moraine's own for ${definition.title}`)
  throw new MoraineError(
    'denied',
    `no key of ${definition.title} is shipped with moraine, so nothing can be verified`,
    {
      hint: 'Give the keyring of the publisher with --keyring FILE, or trust the connection alone with --unsigned.',
    },
  )
}
