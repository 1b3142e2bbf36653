/** `serve`: the image service. */
import { Failure } from '../failure.ts'
import { readInteger } from '../numbers.ts'
import { defineVerb } from '../verb.ts'

const levels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

export const verb = defineVerb({
  name: 'serve',
  summary: 'Serve images over HTTP, as the OpenStack Image API v2',
  operands: '',
  syntax: '',
  about:
    'Starts the image service and runs until it is stopped (Ctrl-C). Images and their catalog are kept in one folder. ' +
    'There is no authentication yet, so the service listens on this machine only unless --insecure-bind is given.',
  examples: [
    ['moraine serve --data ./images', 'on http://127.0.0.1:9292, images in ./images'],
    ['openstack --os-auth-type none --os-endpoint http://127.0.0.1:9292 image list', 'what it holds'],
  ],
  options: {
    host: { long: 'host', argument: 'ADDRESS', help: 'Address to listen on; 127.0.0.1 by default.' },
    port: {
      long: 'port',
      argument: 'PORT',
      help: 'Port to listen on; 9292 by default, 0 for any that is free.',
      parse(text: string): number {
        const port = readInteger(text)
        if (port === undefined || port < 0 || port > 65535) {
          throw new Failure(`--port must be used with a number from 0 to 65535, not '${text}'`)
        }
        return port
      },
    },
    data: { long: 'data', argument: 'FOLDER', help: 'Where images and catalog are kept; made when it is not there.' },
    insecureBind: {
      long: 'insecure-bind',
      help: 'Listen on an address that other machines reach, though anybody there may then read and change every image.',
    },
    logLevel: {
      long: 'log-level',
      argument: 'LEVEL',
      help: `What is logged: ${levels.join(', ')}.`,
      parse(text: string): string {
        if (!levels.some((level) => level === text)) {
          throw new Failure(`--log-level must be used with one of ${levels.join(', ')}, not '${text}'`)
        }
        return text
      },
    },
  },
  async run(values, operands, context) {
    const [surplus] = operands
    if (surplus !== undefined) throw new Failure(`Unexpected argument: ${surplus}`, { usage: true })
    const { serve } = await import('@moraine/server')
    const service = await serve({
      ...(values.host === undefined ? {} : { host: values.host }),
      ...(values.port === undefined ? {} : { port: values.port }),
      ...(values.data === undefined ? {} : { data: values.data }),
      ...(values.logLevel === undefined ? {} : { logLevel: values.logLevel }),
      allowRemote: values.insecureBind,
    })
    context.out.write(`moraine serves images on ${service.url}\n`)
    context.out.flush()
    await stopped(context.signal)
    await service.close()
    return 0
  },
})

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
