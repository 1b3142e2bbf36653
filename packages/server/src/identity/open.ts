/** The identity that the settings ask for. */
import { readFileSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'
import type { Config } from '../config.ts'
import { type Identity, noIdentity } from './identity.ts'
import { keystoneIdentity } from './keystone.ts'

export function openIdentity(config: Config): Identity {
  switch (config.auth) {
    case 'keystone':
      return keystoneIdentity(
        {
          url: config.keystoneUrl,
          method: config.keystoneMethod,
          user: config.keystoneUser,
          password: config.keystonePassword,
          userDomain: config.keystoneUserDomain,
          project: config.keystoneProject,
          projectDomain: config.keystoneProjectDomain,
          ca: config.keystoneCa === '' ? undefined : readFileSync(config.keystoneCa, 'utf8'),
          timeoutSeconds: config.keystoneTimeoutSeconds,
        },
        config.keystoneCacheSeconds,
      )
    case 'local':
      throw new MoraineError('unsupported', 'auth: local is not there yet', { field: 'auth' })
    case 'none':
      return noIdentity
  }
}
