/** `-T`, `--trace`: what happens to the files of images, told line by line under QEMU's names of events. Grammar, order of checks and words: qemu-img 7.2. */
import { openSync, readFileSync } from 'node:fs'
import { type ByteSource, type Extent, isStore } from '@moraine/engine'
import { codeOf, strerror } from '@moraine/engine/node'
import { withMembers } from './blockdev/driver.ts'
import { type Field, splitFields } from './blockdev/options.ts'
import { Failure } from './failure.ts'
import { TextOutput } from './output/streams.ts'
import type { Context, Trace } from './verb.ts'

/** The events that are raised here, in QEMU's order. Its hundreds of others tell of its own insides, which are not here. */
const events = ['bdrv_open_common', 'bdrv_co_preadv_part', 'bdrv_co_pwritev_part', 'bdrv_co_pwrite_zeroes'] as const
type EventName = (typeof events)[number]

type Said = Pick<Context, 'persona' | 'out' | 'err' | 'warn'>

/** What one `--trace` asked for. */
interface Asked {
  enable?: string
  events?: string
  file?: string
}

/** Which events are told, and where. */
export class Tracing implements Trace {
  readonly #context: Said
  readonly #enabled = new Set<EventName>()
  #file: string | undefined
  #to: TextOutput
  #nodes = 0

  constructor(context: Said) {
    this.#context = context
    this.#to = context.err
  }

  /** Reads the argument of one `--trace`; the last one says where the lines go.
   *  @returns an exit code when help was asked for and given
   *  @throws Failure */
  read(text: string): number | undefined {
    const asked = this.#fields(text)
    if (asked === 'help') {
      this.#context.out.write('trace options:\n  enable=<str>\n  events=<str>\n  file=<str>\n')
      return 1
    }
    if (asked.enable !== undefined && this.#enable(asked.enable, this.#context.warn)) return 0
    this.#file = asked.file
    return asked.events === undefined ? undefined : this.#enableFrom(asked.events)
  }

  /** Opens the file that the lines go to, once all options were read.
   *  @throws Failure */
  begin(): void {
    const template = this.#file
    if (template === undefined) return
    // One %d is the number of the process, and nothing else may follow a percent sign.
    if (!/^[^%]*(%d[^%]*)?$/.test(template)) throw new Failure(`Bad logfile template: ${template}`)
    const path = template.replace('%d', String(process.pid))
    try {
      this.#to = new TextOutput(openSync(path, 'w'), 'drops')
    } catch (error) {
      throw new Failure(`Error opening logfile ${path}: ${strerror(codeOf(error))}`)
    }
  }

  end(): void {
    if (this.#to !== this.#context.err) this.#to.flush()
  }

  opened(name: string, format: string, writes: boolean): void {
    this.#openedNode(name, format, writes)
  }

  watch<Source extends ByteSource>(source: Source, writes: boolean): Source {
    const node = this.#openedNode(source.name, 'file', writes)
    const passed = (event: EventName, offset: number, bytes: number): void =>
      this.#tell(event, `${node} offset ${offset} bytes ${bytes} flags 0x0`)
    const watched: Source = withMembers(source, {
      // Nothing goes round this: neither workers nor a copy inside the kernel.
      descriptor: undefined,
      copyFrom: undefined,
      read: async (offset: number, into: Uint8Array, signal?: AbortSignal) => {
        passed('bdrv_co_preadv_part', offset, into.length)
        await source.read(offset, into, signal)
      },
      ...(isStore(source) && {
        write: async (offset: number, from: Uint8Array, signal?: AbortSignal) => {
          passed('bdrv_co_pwritev_part', offset, from.length)
          await source.write(offset, from, signal)
        },
        zero: async (offset: number, length: number, mode: 'unmap' | 'allocate', signal?: AbortSignal) => {
          passed('bdrv_co_pwrite_zeroes', offset, length)
          await source.zero(offset, length, mode, signal)
        },
      }),
      extents: (offset: number, length: number, signal?: AbortSignal) =>
        placedIn(watched, source, source.extents(offset, length, signal)),
    })
    return watched
  }

  #openedNode(name: string, format: string, writes: boolean): string {
    // QEMU shows where a node lies in its memory; here they are counted.
    const node = `bs 0x${(++this.#nodes).toString(16)}`
    this.#tell('bdrv_open_common', `${node} filename "${name}" flags ${writes ? '0x2' : '0x0'} format_name "${format}"`)
    return node
  }

  #tell(event: EventName, what: string): void {
    if (!this.#enabled.has(event)) return
    this.#to.write(`${event} ${what}\n`)
    // A line stands there even when the next step never ends.
    this.#to.flush()
  }

  /** The fields of `[[enable=]PATTERN][,events=FILE][,file=FILE]`. */
  #fields(text: string): Asked | 'help' {
    const fields = text === '' ? [] : splitFields(text)
    const id = fields.find(({ name }) => name === 'id')?.value
    if (id !== undefined && !/^[a-z][\w.-]*$/i.test(id)) {
      throw new Failure("Parameter 'id' expects an identifier", {
        hint: "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
      })
    }
    const asked: Asked = {}
    for (const [at, field] of fields.entries()) {
      const pair = this.#pair(field, at === 0)
      if (pair === 'help') return 'help'
      const [name, value] = pair
      if (name === 'enable' || name === 'events' || name === 'file') asked[name] = value
      else if (name !== 'id') throw new Failure(`Invalid parameter '${name}'`)
    }
    return asked
  }

  #pair({ name: named, value: field }: Field, first: boolean): [name: string, value: string] | 'help' {
    if (named !== undefined) return [named, field]
    if (first) return ['enable', field]
    if (field === 'help' || field === '?') return 'help'
    const [name, value] = field.startsWith('no') ? [field.slice(2), 'off'] : [field, 'on']
    this.#context.warn(`short-form boolean option '${field}' deprecated\nPlease use ${name}=${value} instead`)
    return [name, value]
  }

  /** Switches the events of a pattern on, or off with a dash before it; true when it asked for the list, which then is out. */
  #enable(pattern: string, warn: (message: string) => void): boolean {
    if (pattern === 'help' || pattern === '?') {
      this.#context.out.write(`${events.join('\n')}\n`)
      return true
    }
    const off = pattern.startsWith('-')
    const name = off ? pattern.slice(1) : pattern
    const found = events.filter((event) => matches(event, name))
    for (const event of found) {
      if (off) this.#enabled.delete(event)
      else this.#enabled.add(event)
    }
    if (found.length === 0 && !name.includes('*')) warn(`trace event '${name}' does not exist`)
    return false
  }

  /** A pattern on each line. QEMU takes the last letter of a line for its end, even where the file has none. */
  #enableFrom(path: string): number | undefined {
    const { err, persona } = this.#context
    let text: string
    try {
      text = readFileSync(path, 'latin1')
    } catch (error) {
      // A folder opens and has no lines.
      if (codeOf(error) === 'EISDIR') return undefined
      if (persona.details) throw new Failure(`${path}: ${strerror(codeOf(error))}`)
      err.write(`${persona.name}:${path}: ${strerror(codeOf(error))}\n`)
      return 1
    }
    for (const [at, line] of (text.match(/[^\n]*\n|[^\n]+$/g) ?? []).entries()) {
      const pattern = line.slice(0, -1)
      if (pattern === '' || pattern.startsWith('#')) continue
      const warn = (message: string): void => err.write(`${persona.name}:${path}:${at + 1}: warning: ${message}\n`)
      if (this.#enable(pattern, warn)) return 0
    }
    return undefined
  }
}

/** Bytes that lie in the source lie in what is watched in its place. */
async function* placedIn(
  watched: ByteSource,
  source: ByteSource,
  batches: AsyncIterable<Extent[]>,
): AsyncIterable<Extent[]> {
  for await (const batch of batches) {
    yield batch.map((extent) =>
      extent.host?.source === source ? { ...extent, host: { ...extent.host, source: watched } } : extent,
    )
  }
}

/** `*` stands for any letters, `?` for one. */
function matches(name: string, pattern: string): boolean {
  const [first = '', ...more] = pattern.split('*')
  const fits = (text: string, piece: string): boolean =>
    text.length >= piece.length && [...piece].every((letter, at) => letter === '?' || letter === text[at])
  if (!fits(name, first)) return false
  let rest = name.slice(first.length)
  for (const [at, piece] of more.entries()) {
    if (at === more.length - 1)
      return rest.length >= piece.length && fits(rest.slice(rest.length - piece.length), piece)
    const found = [...rest, ''].findIndex((_letter, from) => fits(rest.slice(from), piece))
    if (found < 0) return false
    rest = rest.slice(found + piece.length)
  }
  return rest === ''
}
