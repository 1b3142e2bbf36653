/** From an argument list to an exit code. */
import { isMoraineError } from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from './failure.ts'
import { Getopt } from './getopt.ts'
import { refuseLostArguments } from './lost-arguments.ts'
import { noObjects } from './objects/objects.ts'
import { ClosedPipe, TextOutput } from './output/streams.ts'
import { readArguments, splitAtVerb } from './parse.ts'
import { personaFor } from './persona.ts'
import { endBySignal, stoppedBy, stopSignal } from './signals.ts'
import type { Tracing } from './trace.ts'
import type { Context, SubVerbs, Verb } from './verb.ts'
import { findVerb } from './verbs/index.ts'
import { versionText } from './version.ts'

/** Runs the command and ends the process. */
export async function runCommand(calledAs: string, args: readonly string[]): Promise<void> {
  const persona = personaFor(calledAs)
  const out = new TextOutput(1, persona.whenOutputIsLost)
  const err = new TextOutput(2, 'drops')
  const said: Said = { verb: undefined, json: undefined }
  const context: Context = {
    persona,
    out,
    err,
    signal: stopSignal,
    objects: noObjects(),
    report: (message) => err.write(said.json?.noticeLine('error', message) ?? `${persona.name}: ${message}\n`),
    warn: (message) => err.write(said.json?.noticeLine('warning', message) ?? `${persona.name}: warning: ${message}\n`),
  }
  let code: number
  try {
    code = await dispatch(context, args, said)
    flushLast(out)
    err.drain()
  } catch (error) {
    code = fail(error, context, said)
    const signal = stoppedBy()
    if (signal !== undefined) endBySignal(signal)
  }
  process.exit(code)
}

/** Flushes what a command said that is done: that nobody reads it any more changes nothing. */
function flushLast(out: TextOutput): void {
  try {
    out.flush()
  } catch (error) {
    if (!(error instanceof ClosedPipe)) throw error
  }
}

/** What is known of a call when it fails. */
interface Said {
  verb: string | undefined
  /** Errors are told as JSON. */
  json: typeof import('./json-errors.ts') | undefined
}

async function dispatch(context: Context, args: readonly string[], said: Said): Promise<number> {
  const { persona, out } = context
  if (args.length === 0) throw usageFailure('Not enough arguments')
  const { rest, errors, trace } = await readGlobalOptions(context, args)
  if (errors === 'json') said.json = await import('./json-errors.ts')
  else if (errors !== undefined && errors !== 'human') throw usageFailure('--errors must be used with human or json')
  if (typeof rest === 'number') return rest
  if (rest === 'help') return printHelp(context)
  if (rest === 'version') {
    out.write(versionText(persona))
    return 0
  }
  trace?.begin()
  try {
    return await callVerb(trace === undefined ? context : { ...context, trace }, rest, said)
  } finally {
    trace?.end()
  }
}

/** Runs what stands behind the options that come before a verb. */
async function callVerb(context: Context, args: readonly string[], said: Said): Promise<number> {
  const { persona } = context
  const [name, ...verbArgs] = args
  if (name === undefined) return 0
  if (persona.extensions && name === 'help') return printHelp(context, verbArgs)
  if (persona.extensions && name === 'completion' && isAskedByShell(verbArgs))
    return await answerShell(context, verbArgs)
  const verb = await findVerb(name, persona)
  if (verb === undefined) throw usageFailure(`Command not found: ${name}`)
  said.verb = name
  if (verb.below !== undefined) return await dispatchBelow(context, verb, verb.below, verbArgs, said)
  return await runVerb(context, verb, verbArgs)
}

/** What the scripts of `moraine completion` ask: `line -- TEXT` is a command line up to the cursor, `words -- WORD...` are its words without the first. */
function isAskedByShell([what, dashes]: readonly string[]): boolean {
  return (what === 'line' || what === 'words') && dashes === '--'
}

async function answerShell({ persona, out }: Context, [what, , ...given]: readonly string[]): Promise<number> {
  const { suggest, suggestionLines } = await import('./completion/suggest.ts')
  const { splitLine } = await import('./completion/line.ts')
  const words = what === 'line' ? splitLine(given[0] ?? '').slice(1) : given
  out.write(suggestionLines(await suggest(words, persona)))
  return 0
}

/** A verb below `group`. Options that all of them take may stand before its name. */
async function dispatchBelow(
  context: Context,
  group: Verb,
  below: SubVerbs,
  args: readonly string[],
  said: Said,
): Promise<number> {
  const { before, rest } = splitAtVerb(group, context.persona, args)
  const [name, ...more] = rest
  if (before === 'help') return printHelp(context, [group.name])
  if (name === undefined && group.alone === true) return await runVerb(context, group, args)
  if (name === undefined) throw usageFailure(`Expecting a command after '${group.name}'`)
  if (name === 'help') return printHelp(context, [group.name, ...more])
  const verb = await below.find(name)
  if (verb === undefined) throw usageFailure(`Command not found: ${group.name} ${name}`)
  said.verb = verb.name
  return await runVerb(context, verb, [...before, ...more])
}

async function runVerb(context: Context, verb: Verb, args: readonly string[]): Promise<number> {
  refuseLostArguments(args, verb.objectFailure)
  const request = readArguments(verb, context.persona, args, context.warn)
  if (request.kind === 'run') {
    const { object, untrusted, allow } = request.values
    if (Array.isArray(object) && object.length > 0) {
      const answer = await defineObjects(context, object, verb.objectFailure)
      if (answer !== undefined) {
        context.out.write(answer)
        return 0
      }
    }
    const inContext =
      untrusted === true ? { ...context, untrusted: { allow: Array.isArray(allow) ? allow.map(String) : [] } } : context
    return await verb.run(request.values, request.operands, inContext, request.given)
  }
  if (request.complaint !== undefined) context.err.write(`${request.complaint}\n`)
  return printHelp(context, verb.name.split(' '))
}

/** @returns text that one of the definitions asked for: the call ends with it. */
async function defineObjects(
  { objects, signal }: Context,
  definitions: readonly unknown[],
  exitCode: number | undefined,
): Promise<string | undefined> {
  const { defineObject } = await import('./objects/define.ts')
  try {
    for (const definition of definitions) {
      const answer = await defineObject(String(definition), objects, signal)
      if (answer !== undefined) return answer
    }
    return undefined
  } catch (error) {
    throw exitCode !== undefined && error instanceof Failure ? error.withExitCode(exitCode) : error
  }
}

/** What stands before the verb. */
interface GlobalOptions {
  /** A number: all is done, and this is the exit code. */
  rest: 'help' | 'version' | number | string[]
  errors: string | undefined
  trace: Tracing | undefined
}

/** Options before the verb. */
async function readGlobalOptions(context: Context, args: readonly string[]): Promise<GlobalOptions> {
  const { persona } = context
  const getopt = new Getopt(
    [persona.name, ...args],
    [
      { key: 'help', short: 'h', long: 'help', argument: false },
      { key: 'version', short: 'V', long: 'version', argument: false },
      { key: 'trace', short: 'T', long: 'trace', argument: true },
      ...(persona.extensions ? [{ key: 'errors', short: undefined, long: 'errors', argument: true }] : []),
    ],
    true,
  )
  let errors: string | undefined
  let trace: Tracing | undefined
  for (;;) {
    const step = getopt.next()
    const element = getopt.argv[getopt.optind - 1]
    switch (step.kind) {
      case 'end':
        return { rest: getopt.argv.slice(getopt.optind), errors, trace }
      case 'missing':
        throw usageFailure(`missing argument for option '${element}'`)
      case 'unknown':
        throw usageFailure(`unrecognized option '${element}'`)
      case 'option':
        if (step.key === 'errors') errors = step.value
        else if (step.key !== 'trace') return { rest: step.key === 'help' ? 'help' : 'version', errors, trace }
        else {
          trace ??= new (await import('./trace.ts')).Tracing(context)
          const code = trace.read(step.value ?? '')
          if (code !== undefined) return { rest: code, errors, trace }
        }
    }
  }
}

async function printHelp(context: Context, verb: readonly string[] = []): Promise<number> {
  const { helpText } = await import('./help.ts')
  context.out.write(await helpText(context.persona, verb))
  return 0
}

/** Says what went wrong; the exit code. Nothing is said when the user stopped the command or our reader went away. */
function fail(error: unknown, context: Context, { verb, json }: Said): number {
  if (error instanceof ClosedPipe) return 0
  const code = error instanceof Failure ? error.exitCode : 1
  context.out.drain()
  if (!(isMoraineError(error, 'cancelled') && stoppedBy() !== undefined)) {
    if (json === undefined) say(error, context, verb)
    else context.err.write(json.errorLine(error, code))
  }
  context.err.drain()
  return code
}

function say(error: unknown, context: Context, verb: string | undefined): void {
  const failure = failureFrom(error, context.persona)
  if (failure instanceof Failure) {
    for (const message of failure.messages) context.report(message)
    if (failure.hint !== undefined) context.err.write(failure.hint + (failure.unterminated ? '' : '\n'))
    if (failure.usage) context.err.write(`${context.persona.usageHint(verb)}\n`)
    return
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  context.report(`internal error, please report it: ${text}`)
}
