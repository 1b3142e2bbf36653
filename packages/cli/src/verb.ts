/** What a verb is: declared once, and from that come parsing, `--help` and what is refused. */

import type { ByteSource } from '@moraine/engine'
import type { Objects } from './objects/objects.ts'
import type { TextOutput } from './output/streams.ts'
import type { Persona } from './persona.ts'
import type { Distrust } from './untrusted.ts'

/** `--trace`: is told of what is opened, and watches files. */
export interface Trace {
  /** A file that was opened; what is returned in its place tells of what passes. */
  watch<Source extends ByteSource>(source: Source, writes: boolean): Source
  /** A disk that was opened in one. */
  opened(name: string, format: string, writes: boolean): void
  /** No more is told. */
  end(): void
}

/** What a verb may use while it runs. */
export interface Context {
  readonly persona: Persona
  readonly out: TextOutput
  readonly err: TextOutput
  /** Fires when the user stops the command. */
  readonly signal: AbortSignal
  /** What `--object` defined. */
  readonly objects: Objects
  /** `--untrusted`: images are a stranger's. */
  readonly untrusted?: Distrust | undefined
  /** `--trace`: what happens to the files of images is told. */
  readonly trace?: Trace | undefined
  /** Says an error on standard error, after the program's name. */
  report(message: string): void
  /** Says a warning on standard error. */
  warn(message: string): void
}

/** One option of a verb. */
export interface OptionSpec {
  /** One letter. */
  readonly short?: string
  /** Without dashes. */
  readonly long?: string
  /** What qemu-img 10 calls it besides, without dashes; one letter is a short option. They are taken where nothing of 7.2's is meant. */
  readonly newer?: readonly string[]
  /** Name of its argument in help; without one it is a switch. */
  readonly argument?: string
  /** One or more sentences for people. */
  readonly help: string
  /** What may be given, where that is one of a few words: for completion. */
  readonly values?: () => readonly string[]
  /** It may be given several times, and all values are kept. Otherwise the last one counts. */
  readonly collect?: true
  /** Checks and converts the argument as soon as it is met; `warn` says a warning about it. */
  readonly parse?: (text: string, warn: (message: string) => void) => unknown
  /** QEMU has it and it is refused by name. */
  readonly refused?: true
  /** QEMU does not have it; only moraine takes it. */
  readonly extension?: true
  /** It means something only beside one of these, by the names of the table; alone it is refused, unless it says `human`. */
  readonly goesWith?: readonly string[]
  /** All verbs below one verb take it: it is explained in that one's help. */
  readonly shared?: true
}

/** The verbs below a verb, as in `moraine image list`, each loaded when it is asked for. */
export interface SubVerbs {
  find(name: string): Promise<Verb | undefined>
  all(): Promise<Verb[]>
}

type Single<Option extends OptionSpec> = Option extends {
  parse: (text: string, warn: (message: string) => void) => infer Result
}
  ? Result
  : string

type Value<Option extends OptionSpec> = Option extends { collect: true }
  ? Single<Option>[]
  : Option extends { argument: string }
    ? Single<Option> | undefined
    : boolean

/** The options of a call, by the names of the table. */
export type Values<Options extends Record<string, OptionSpec>> = { [Key in keyof Options]: Value<Options[Key]> }

/** The options of a call in the order in which they were given, by the names of the table; a switch has the value `true`. */
export type Given = readonly { key: string; value: unknown }[]

/** One verb. */
export interface Verb<Options extends Record<string, OptionSpec> = Record<string, OptionSpec>> {
  readonly name: string
  /** One line, for the list of verbs. */
  readonly summary: string
  /** The operands, for the usage line, as in `FILE [SIZE]`. */
  readonly operands: string
  /** The verb's line in QEMU's own help, without its name. */
  readonly syntax: string
  /** A paragraph or two for people. */
  readonly about: string
  readonly examples: readonly (readonly [command: string, what: string])[]
  readonly options: Options
  /** Looks at each option when it is met, before its argument is read; `seen` holds the keys met before. */
  readonly each?: (key: string, seen: ReadonlySet<string>) => void
  /** QEMU leaves wrong options of this verb to getopt's own messages and then prints its help. */
  readonly lenient?: true
  /** The exit code when an object cannot be defined, where it is not 1. */
  readonly objectFailure?: number
  /** What follows is the name of a verb below this one; `options` are those that all of them take, and may stand before that name. */
  readonly below?: SubVerbs
  /** The verb does something by itself when no verb below it is named. */
  readonly alone?: true
  /** Arguments taken off the end before options are looked at, so that they may begin with a dash; `least` is how many there must be in all. */
  readonly trailing?: { readonly count: number; readonly least: number; readonly message: string }
  /** @returns the exit code */
  run(values: Values<Options>, operands: string[], context: Context, given: Given): Promise<number> | number
}

/** Lets the compiler know the types of a verb's options. */
export function defineVerb<const Options extends Record<string, OptionSpec>>(verb: Verb<Options>): Verb {
  // The table and the values that are read by it always belong together.
  return verb as unknown as Verb
}

/** The verbs below a verb, by name, each loaded when it is asked for. */
export function subVerbs(loaders: Readonly<Record<string, () => Promise<{ verb: Verb }>>>): SubVerbs {
  return {
    async find(name) {
      return Object.hasOwn(loaders, name) ? (await loaders[name]?.())?.verb : undefined
    },
    async all() {
      return await Promise.all(Object.values(loaders).map(async (load) => (await load()).verb))
    },
  }
}
