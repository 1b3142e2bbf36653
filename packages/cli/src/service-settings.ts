/** The settings of the service as options of the command. */
import { parseSize } from '@moraine/engine'
import { type ConfigInput, settings } from '@moraine/server/config'
import { Failure } from './failure.ts'
import { sizeText } from './output/size.ts'
import type { OptionSpec } from './verb.ts'

type Setting = (typeof settings)[keyof typeof settings]

/** An option for each setting but secrets, which every user of the machine could read on a command line. */
export const settingOptions: Record<string, OptionSpec> = Object.fromEntries(
  Object.entries<Setting>(settings)
    .filter(([, { kind }]) => kind !== 'secret')
    .map(([name, setting]) => [name, optionFor(name, setting)]),
)

/** The same, for verbs below `serve`. */
export const sharedSettingOptions: Record<string, OptionSpec> = Object.fromEntries(
  Object.entries(settingOptions).map(([name, option]) => [name, { ...option, shared: true }]),
)

/** The settings among the options of a call. Each value was read by its setting's kind; the service checks the rest. */
export function givenSettings(values: Readonly<Record<string, unknown>>): ConfigInput {
  const given = Object.entries(values).filter(
    ([name, value]) => Object.hasOwn(settings, name) && value !== undefined && !isAbsentSwitch(name, value),
  )
  return Object.fromEntries(given) as ConfigInput
}

function optionFor(name: string, setting: Setting): OptionSpec {
  const long = name === 'allowRemote' ? 'insecure-bind' : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const what = setting.help.charAt(0).toUpperCase() + setting.help.slice(1)
  const help = setting.initial === '' ? `${what}.` : `${what} (default: ${initialText(setting)}).`
  switch (setting.kind) {
    case 'flag':
      if (!setting.initial) return { long, help: `${what}.` }
      return { long, argument: 'on|off', values: () => ['on', 'off'], help, parse: (text) => readSwitch(long, text) }
    case 'number':
      return { long, argument: 'N', help, parse: (text) => readNumber(long, 'number', text) }
    case 'size':
      return { long, argument: 'SIZE', help, parse: (text) => readNumber(long, 'size', text) }
    case 'choice':
      return {
        long,
        argument: 'WORD',
        values: () => setting.choices ?? [],
        help: `${help.slice(0, -1)}: ${setting.choices?.join(', ')}.`,
      }
    case 'text':
    case 'secret':
      return { long, argument: 'TEXT', help }
  }
}

function initialText({ kind, initial }: Setting): string {
  if (typeof initial === 'boolean') return initial ? 'on' : 'off'
  return kind === 'size' && initial !== 0 ? sizeText(Number(initial)) : String(initial)
}

/** A switch that was not given says nothing, so that the environment may. */
function isAbsentSwitch(name: string, value: unknown): boolean {
  return value === false && settings[name as keyof typeof settings].initial === false
}

function readSwitch(option: string, text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on'
  throw new Failure(`--${option} must be used with on or off, not '${text}'`)
}

function readNumber(option: string, kind: 'number' | 'size', text: string): number {
  const value = kind === 'size' ? parseSize(text) : /^\d+$/.test(text) ? BigInt(text) : undefined
  if (value === undefined || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Failure(`--${option} must be used with a ${kind}, not '${text}'`)
  }
  return Number(value)
}
