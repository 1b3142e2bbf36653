/** The identity that the settings ask for. */
import { readFileSync } from 'node:fs'
import type { Catalog } from '../catalog/catalog.ts'
import type { Config } from '../config.ts'
import { ensureFirstAccount } from './first-account.ts'
import { type Identity, noIdentity } from './identity.ts'
import { keystoneIdentity } from './keystone.ts'
import { LocalIdentity } from './local.ts'

/** Opens it; accounts that are not there yet get their first one. @throws MoraineError `unsupported` for accounts where this Node has no Argon2. */
export async function openIdentity(config: Config, catalog: Catalog): Promise<Identity> {
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
        config.keystoneLimits ? config.region : undefined,
        config.region,
      )
    case 'local':
      return openLocal(config, catalog)
    case 'none':
      return noIdentity
  }
}

async function openLocal(config: Config, catalog: Catalog): Promise<Identity> {
  const identity = new LocalIdentity(catalog, config)
  identity.passwordFile = await ensureFirstAccount(catalog.accounts, config.adminPassword, config.data)
  return identity
}
