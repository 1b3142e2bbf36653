/** `serve`: the image service. Its options are the service's own settings. */
import type { RunningService } from '@moraine/server'
import { variableOf } from '@moraine/server/config'
import { givenSettings, settingOptions } from '../service-settings.ts'
import { onReloadRequest } from '../signals.ts'
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  backup: () => import('./serve/backup.ts'),
  restore: () => import('./serve/restore.ts'),
  doctor: () => import('./serve/doctor.ts'),
  password: () => import('./serve/password.ts'),
  migrate: () => import('./serve/migrate.ts'),
  sync: () => import('./serve/sync.ts'),
  tasks: () => import('./serve/tasks.ts'),
})

export const verb = defineVerb({
  name: 'serve',
  summary: 'Serve images over HTTP, as the OpenStack Image API v2',
  operands: '',
  syntax: '',
  about:
    'Starts the image service and runs until it is stopped (Ctrl-C). Images and their catalog are kept in one folder. ' +
    'Unless --auth says otherwise nobody has to say who they are, and the service listens on this machine only; with --auth local it keeps accounts of its own, with --auth keystone a Keystone does. ' +
    `Each setting can also come from the environment, as in ${variableOf('listLimit')}, or from a file (--config); moraine config shows what is in force.`,
  examples: [
    ['moraine serve --data ./images', 'on http://127.0.0.1:9292, images in ./images'],
    [
      'moraine serve --auth local',
      'with accounts; the first start makes the account admin and says where its password is',
    ],
    ['openstack --os-auth-type none --os-endpoint http://127.0.0.1:9292 image list', 'what it holds'],
    ['glance --os-image-url http://127.0.0.1:9292 --os-auth-token any image-list', 'the same'],
  ],
  options: settingOptions,
  below,
  alone: true,
  async run(values, _operands, context) {
    const { keepMemorySmall } = await import('./serve/memory.ts')
    keepMemorySmall()
    const { serve } = await import('@moraine/server')
    const service = await serve(givenSettings(values))
    context.out.write(greeting(service))
    context.out.flush()
    const done = onReloadRequest(() => {
      try {
        service.reload()
      } catch (error) {
        context.report((error as Error).message)
      }
    })
    await stopped(context.signal)
    done()
    await service.close()
    return 0
  },
})

/** Where the service is, and how to reach it with the stock clients: a line for each, to be pasted. */
function greeting(service: RunningService): string {
  return `moraine serves images on ${service.url}, kept in ${service.data}\n${howToLogIn(service)}`
}

function howToLogIn({ endpoint, auth, adminPasswordFile }: RunningService): string {
  switch (auth) {
    case 'none':
      return (
        'Try it from another terminal, with either client:\n' +
        `  openstack --os-auth-type none --os-endpoint ${endpoint} image list\n` +
        `  glance --os-image-url ${endpoint} --os-auth-token any image-list\n`
      )
    case 'local': {
      const made =
        adminPasswordFile === undefined
          ? ''
          : `The password of the account admin was made up and written to ${adminPasswordFile}\n`
      const password = adminPasswordFile === undefined ? '...' : `"$(cat '${adminPasswordFile}')"`
      return (
        `${made}Try it from another terminal, with openstack or glance:\n` +
        `  export OS_AUTH_URL=${endpoint.replace(/\/+$/, '')}/identity OS_IDENTITY_API_VERSION=3 OS_PROJECT_NAME=admin OS_PROJECT_DOMAIN_NAME=Default\n` +
        `  export OS_USERNAME=admin OS_USER_DOMAIN_NAME=Default OS_PASSWORD=${password}\n` +
        '  openstack image list\n'
      )
    }
    case 'keystone':
      return 'Keystone says who is calling; clients find the service by its endpoint there.\n'
  }
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
