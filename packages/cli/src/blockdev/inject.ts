/** `blkdebug`'s rules: which call fails, and how. Facts: QEMU 7.2's `block/blkdebug.c` and docs/devel/blkdebug.txt, and what qemu-img does with them. */
import { constants } from 'node:os'
import { MoraineError } from '@moraine/engine'
import type { Passing } from './filters.ts'
import type { NodeOptions } from './options.ts'

/** Events that QEMU's drivers raise; here those of reading, writing and flushing are, and `none` stands for a request itself. */
const raised: Readonly<Record<string, readonly Passing[]>> = {
  read_aio: ['read'],
  write_aio: ['write', 'zero'],
  pwritev: ['write'],
  pwritev_zero: ['zero'],
  flush_to_disk: ['flush'],
  flush_to_os: ['flush'],
  none: ['read', 'write', 'zero', 'discard', 'flush', 'status'],
}

/** Known to QEMU and never raised here: what stands in a format's tables is its own business. */
const silent = new Set(
  (
    'l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update l2_update_compressed l2_alloc_cow_read ' +
    'l2_alloc_write read_backing_aio read_compressed vmstate_load vmstate_save cow_read cow_write reftable_load reftable_grow ' +
    'reftable_update refblock_load refblock_update refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write ' +
    'refblock_alloc_write_blocks refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_alloc_bytes cluster_free ' +
    'pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail pwritev_done empty_image_prepare ' +
    'l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space'
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
  errno: number
  /** Bytes; undefined: any place. */
  offset: number | undefined
  once: boolean
  /** Default: every type but `block-status`. */
  types: readonly Passing[]
}

/** One rule, as it stands at a moment. */
export class InjectedError {
  readonly #rule: Rule
  #spent = false

  constructor(rule: Rule) {
    this.#rule = rule
  }

  /** The error that this call meets, if it meets this one. */
  strikes(call: Passing, offset: number, length: number): MoraineError | undefined {
    const { event, errno, offset: place, once, types: hit } = this.#rule
    if (this.#spent || !hit.includes(call) || raised[event]?.includes(call) !== true) return undefined
    if (place !== undefined && (place < offset || place >= offset + length)) return undefined
    if (once) this.#spent = true
    const code = Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? 'EIO'
    return new MoraineError('io', code === 'ENOSPC' ? 'No space left on device' : 'Input/output error', {
      offset,
      code,
    })
  }
}

/** Takes the rules out of the options, and reads those of a configuration.
 *  @throws MoraineError `invalid`, `unsupported` for rules with states, which need a format's own events. */
export function readInjectedErrors(options: NodeOptions, config: string | undefined): InjectedError[] {
  const rules: Rule[] = []
  for (const number of indexes(options, 'inject-error')) {
    const given = options.takeBelow(`inject-error.${number}`)
    rules.push(readRule(Object.fromEntries(given.names().map((name) => [name, String(given.peek(name))]))))
  }
  if (options.hasBelow('set-state')) refuseStates()
  for (const section of sectionsOf(config ?? '')) {
    if (section.name === 'set-state') refuseStates()
    if (section.name !== 'inject-error') {
      throw new MoraineError('invalid', `Could not parse blkdebug config file: no section '${section.name}' is known`)
    }
    rules.push(readRule(section.values))
  }
  return rules.map((rule) => new InjectedError(rule))
}

function indexes(options: NodeOptions, name: string): string[] {
  const found = options.names().flatMap((key) => (key.startsWith(`${name}.`) ? [key.split('.')[1] ?? ''] : []))
  return [...new Set(found)]
}

function readRule(values: Readonly<Record<string, string>>): Rule {
  const { event, errno = '5', sector, once, immediately: _immediately, iotype, state, ...unknown } = values
  const [odd] = Object.keys(unknown)
  if (odd !== undefined) throw new MoraineError('invalid', `Invalid parameter '${odd}'`, { field: odd })
  if (state !== undefined && state !== '0') refuseStates()
  if (event === undefined) throw new MoraineError('invalid', 'Missing event name for rule', { field: 'event' })
  if (raised[event] === undefined && !silent.has(event)) {
    throw new MoraineError('invalid', `invalid parameter value: ${event}`, { field: 'event', value: event })
  }
  const type = iotype === undefined ? undefined : types[iotype]
  if (iotype !== undefined && type === undefined) {
    throw new MoraineError('invalid', `invalid parameter value: ${iotype}`, { field: 'iotype', value: iotype })
  }
  return {
    event,
    errno: Number(errno),
    offset: sector === undefined || sector === '-1' ? undefined : Number(sector) * 512,
    once: once === 'on' || once === 'true',
    types: type === undefined ? ['read', 'write', 'zero', 'discard', 'flush'] : [type],
  }
}

function refuseStates(): never {
  throw new MoraineError('unsupported', 'states of blkdebug are not supported: formats here do not raise their events')
}

interface Section {
  name: string
  values: Record<string, string>
}

/** Sections as in `[inject-error]`, with `name = "value"` below. */
function sectionsOf(config: string): Section[] {
  const sections: Section[] = []
  for (const line of config.split('\n').map((text) => text.trim())) {
    if (line === '' || line.startsWith('#')) continue
    const head = /^\[\s*([\w-]+)(?:\s+"[^"]*")?\s*\]$/.exec(line)
    const pair = /^([\w-]+)\s*=\s*"([^"]*)"$/.exec(line)
    const last = sections.at(-1)
    if (head !== null) sections.push({ name: head[1] ?? '', values: {} })
    else if (pair !== null && last !== undefined) last.values[pair[1] ?? ''] = pair[2] ?? ''
    else throw new MoraineError('invalid', `Could not parse blkdebug config file: '${line}'`)
  }
  return sections
}
