/** `blkdebug`'s rules: which call fails after which event, and how. Facts: QEMU 7.2's `block/blkdebug.c` and docs/devel/blkdebug.txt, and what qemu-img does with them. */
import { constants } from 'node:os'
import { MoraineError } from '@moraine/engine'
import { strerror } from '@moraine/engine/node'
import { readSwitch } from '../switch.ts'
import { sectionsOf } from './blkdebug-config.ts'
import type { Passing } from './filters.ts'
import type { NodeOptions } from './options.ts'

/** Every event that QEMU knows. qcow2 and raw tell those of theirs that are in `docs/architecture.md`; the others are taken, and never come. */
const events = new Set(
  (
    'l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update l2_update_compressed l2_alloc_cow_read ' +
    'l2_alloc_write read_aio read_backing_aio read_compressed write_aio write_compressed vmstate_load vmstate_save cow_read cow_write ' +
    'reftable_load reftable_grow reftable_update refblock_load refblock_update refblock_update_part refblock_alloc refblock_alloc_hookup ' +
    'refblock_alloc_write refblock_alloc_write_blocks refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc ' +
    'cluster_alloc_bytes cluster_free flush_to_os flush_to_disk pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail ' +
    'pwritev_rmw_after_tail pwritev pwritev_zero pwritev_done empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters ' +
    'cor_write cluster_alloc_space none'
  ).split(' '),
)

const types: Readonly<Record<string, Passing>> = {
  read: 'read',
  write: 'write',
  'write-zeroes': 'zero',
  discard: 'discard',
  flush: 'flush',
  'block-status': 'status',
}

interface Rule {
  event: string
  /** Only in this state; 0: in any. */
  state: number
}

interface ErrorRule extends Rule {
  errno: number
  /** Bytes; undefined: any place. */
  offset: number | undefined
  once: boolean
  types: readonly Passing[]
}

interface StateRule extends Rule {
  next: number
}

/** What events a node itself is behind, as QEMU's block layer tells them. */
const ownEvents: Partial<Record<Passing, readonly string[]>> = {
  write: ['pwritev'],
  zero: ['pwritev_zero'],
  flush: ['flush_to_os', 'flush_to_disk'],
}

/** The rules of one node, and the state that it is in. */
export class Faults {
  readonly #errors: ErrorRule[]
  readonly #states: readonly StateRule[]
  #state = 1
  /** What the last event set off: it strikes at every call until another event sets something off. */
  #active: ErrorRule[] = []
  /** Whether what is read and written counts as `read_aio` and `write_aio`: for formats that tell no events. */
  guesses = false

  constructor(errors: ErrorRule[], states: readonly StateRule[]) {
    this.#errors = errors
    this.#states = states
    this.tell('none')
  }

  /** An event has come. */
  tell(event: string): void {
    const holds = ({ event: wanted, state }: Rule): boolean =>
      wanted === event && (state === 0 || state === this.#state)
    const struck = this.#errors.filter(holds)
    if (struck.length > 0) this.#active = struck
    const next = this.#states.filter(holds).at(-1)
    if (next !== undefined) this.#state = next.next
  }

  /** Lets a call pass that no error meets; `path` is the node's name.
   *  @throws MoraineError `io` */
  pass(call: Passing, offset: number, length: number, path: string): void {
    for (const event of ownEvents[call] ?? []) this.tell(event)
    if (this.guesses && call === 'read') this.tell('read_aio')
    if (this.guesses && (call === 'write' || call === 'zero')) this.tell('write_aio')
    const found = this.#active.find(
      (rule) =>
        rule.types.includes(call) &&
        (rule.offset === undefined || (length > 0 && rule.offset >= offset && rule.offset < offset + length)),
    )
    if (found === undefined || found.errno === 0) return
    if (found.once) {
      this.#active = this.#active.filter((rule) => rule !== found)
      this.#errors.splice(this.#errors.indexOf(found), 1)
    }
    const code = Object.entries(constants.errno).find(([, value]) => value === found.errno)?.[0]
    throw new MoraineError('io', code === undefined ? `Unknown error ${found.errno}` : strerror(code), {
      path,
      offset,
      code: code ?? 'EIO',
    })
  }
}

/** Takes the rules out of the options, and reads those of a configuration, which come first.
 *  @throws MoraineError `invalid` */
export function readFaults(options: NodeOptions, config: string | undefined): Faults {
  const errors: ErrorRule[] = []
  const states: StateRule[] = []
  for (const { name, values } of sectionsOf(config ?? '')) {
    const refuse = (odd: string): string => `Invalid parameter '${odd}'`
    if (name === 'inject-error') errors.push(readErrorRule(values, refuse))
    else states.push(readStateRule(values, refuse))
  }
  const given = (section: string, number: string): Record<string, string> => {
    const below = options.takeBelow(`${section}.${number}`)
    return Object.fromEntries(below.names().map((name) => [name, String(below.peek(name))]))
  }
  for (const section of ['inject-error', 'set-state']) {
    const refuse = (odd: string): string => `[${section}] section doesn't support the option '${odd}'`
    for (const number of indexes(options, section)) {
      const values = given(section, number)
      if (section === 'inject-error') errors.push(readErrorRule(values, refuse))
      else states.push(readStateRule(values, refuse))
    }
  }
  return new Faults(errors, states)
}

function indexes(options: NodeOptions, name: string): string[] {
  const found = options.names().flatMap((key) => (key.startsWith(`${name}.`) ? [key.split('.')[1] ?? ''] : []))
  return [...new Set(found)]
}

type Values = Readonly<Record<string, string | undefined>>

function invalid(field: string, words: string, value?: string): MoraineError {
  return new MoraineError('invalid', words, { field, value })
}

function refuseOdd(values: Values, known: readonly string[], refuse: (odd: string) => string): void {
  const odd = Object.keys(values).find((name) => !known.includes(name))
  if (odd !== undefined) throw invalid(odd, refuse(odd))
}

function readErrorRule(values: Values, refuse: (odd: string) => string): ErrorRule {
  refuseOdd(values, ['event', 'state', 'iotype', 'errno', 'sector', 'once', 'immediately'], refuse)
  const state = numberOf(values, 'state') ?? 0
  const errno = numberOf(values, 'errno') ?? constants.errno.EIO
  const sector = numberOf(values, 'sector')
  const once = switchOf(values, 'once') ?? false
  // Whether an error comes at once or a moment later is all the same to whoever awaits it.
  switchOf(values, 'immediately')
  const event = eventOf(values)
  const type = values.iotype === undefined ? undefined : types[values.iotype]
  if (values.iotype !== undefined && type === undefined) {
    throw invalid('iotype', `invalid parameter value: ${values.iotype}`, values.iotype)
  }
  return {
    event,
    state,
    errno,
    offset: sector === undefined || sector < 0 ? undefined : sector * 512,
    once,
    types: type === undefined ? ['read', 'write', 'zero', 'discard', 'flush'] : [type],
  }
}

function readStateRule(values: Values, refuse: (odd: string) => string): StateRule {
  refuseOdd(values, ['event', 'state', 'new_state'], refuse)
  const state = numberOf(values, 'state') ?? 0
  const next = numberOf(values, 'new_state') ?? 0
  return { event: eventOf(values), state, next }
}

function eventOf({ event }: Values): string {
  if (event === undefined) throw invalid('event', 'Missing event name for rule')
  if (!events.has(event)) throw invalid('event', `invalid parameter value: ${event}`, event)
  return event
}

function numberOf(values: Values, name: string): number | undefined {
  const text = values[name]
  if (text === undefined) return undefined
  const [, sign, digits] = /^\s*([-+]?)(\d+|0x[0-9a-f]+)$/i.exec(text) ?? []
  if (digits !== undefined) return sign === '-' ? -Number(digits) : Number(digits)
  throw invalid(name, `Parameter '${name}' expects a number`, text)
}

function switchOf(values: Values, name: string): boolean | undefined {
  const text = values[name]
  const switched = text === undefined ? undefined : readSwitch(text)
  if (text !== undefined && switched === undefined) {
    throw invalid(name, `Parameter '${name}' expects 'on' or 'off'`, text)
  }
  return switched
}
