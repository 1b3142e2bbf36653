/** `serve`: the image service. Its options are the service's own settings. */
import { parseSize } from '@moraine/engine'
import type { RunningService } from '@moraine/server'
import { type ConfigInput, settings, variableOf } from '@moraine/server/config'
import { Failure, usageFailure } from '../failure.ts'
import { sizeText } from '../output/size.ts'
import { defineVerb, type OptionSpec } from '../verb.ts'

type Setting = (typeof settings)[keyof typeof settings]

export const verb = defineVerb({
  name: 'serve',
  summary: 'Serve images over HTTP, as the OpenStack Image API v2',
  operands: '',
  syntax: '',
  about:
    'Starts the image service and runs until it is stopped (Ctrl-C). Images and their catalog are kept in one folder. ' +
    'Nobody has to say who they are yet, so the service listens on this machine only unless --insecure-bind is given. ' +
    `Each setting can also come from the environment, as in ${variableOf('listLimit')}.`,
  examples: [
    ['moraine serve --data ./images', 'on http://127.0.0.1:9292, images in ./images'],
    ['openstack --os-auth-type none --os-endpoint http://127.0.0.1:9292 image list', 'what it holds'],
    ['glance --os-image-url http://127.0.0.1:9292 --os-auth-token any image-list', 'the same'],
  ],
  options: Object.fromEntries(
    Object.entries<Setting>(settings)
      .filter(([, { kind }]) => kind !== 'secret')
      .map(([name, setting]) => [name, optionFor(name, setting)]),
  ),
  async run(values, operands, context) {
    const [surplus] = operands
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const given = Object.entries(values).filter(([name, value]) => value !== undefined && !isAbsentSwitch(name, value))
    const { serve } = await import('@moraine/server')
    // Each value was read by its setting's kind; the service checks the rest.
    const service = await serve(Object.fromEntries(given) as ConfigInput)
    context.out.write(greeting(service))
    context.out.flush()
    await stopped(context.signal)
    await service.close()
    return 0
  },
})

/** Where the service is, and how to reach it with the stock clients: a line for each, to be pasted. */
function greeting({ url, endpoint, data }: RunningService): string {
  return (
    `moraine serves images on ${url}, kept in ${data}\n` +
    'Try it from another terminal, with either client:\n' +
    `  openstack --os-auth-type none --os-endpoint ${endpoint} image list\n` +
    `  glance --os-image-url ${endpoint} --os-auth-token any image-list\n`
  )
}

function optionFor(name: string, setting: Setting): OptionSpec {
  const long = name === 'allowRemote' ? 'insecure-bind' : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const what = setting.help.charAt(0).toUpperCase() + setting.help.slice(1)
  const help = setting.initial === '' ? `${what}.` : `${what} (default: ${initialText(setting)}).`
  switch (setting.kind) {
    case 'flag':
      if (!setting.initial) return { long, help: `${what}.` }
      return { long, argument: 'on|off', help, parse: (text) => readSwitch(long, text) }
    case 'number':
      return { long, argument: 'N', help, parse: (text) => readNumber(long, 'number', text) }
    case 'size':
      return { long, argument: 'SIZE', help, parse: (text) => readNumber(long, 'size', text) }
    case 'choice':
      return { long, argument: 'WORD', help: `${help.slice(0, -1)}: ${setting.choices?.join(', ')}.` }
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

/** The service is asked to stop by a signal: that is how it ends well. */
function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    // Keeps the process alive though nothing else may be pending.
    const awake = setInterval(() => {}, 1 << 30)
    const done = (): void => {
      clearInterval(awake)
      resolve()
    }
    if (signal.aborted) done()
    else signal.addEventListener('abort', done, { once: true })
  })
}
