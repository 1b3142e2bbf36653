/** The ways of importing, as the API names them. */
import type { Config } from '../config.ts'
import { canPinAddresses } from '../web/client.ts'

export const methodNames = ['glance-direct', 'web-download', 'copy-image', 'glance-download'] as const
export type MethodName = (typeof methodNames)[number]

const fromTheWeb: ReadonlySet<MethodName> = new Set(['web-download', 'glance-download'])

/** Those that the settings offer, in the order of the setting, as far as this build can. */
export function importMethods({ importMethods: setting }: Pick<Config, 'importMethods'>): MethodName[] {
  const written = setting.split(',').map((name) => name.trim())
  const known = methodNames.filter((name) => canPinAddresses || !fromTheWeb.has(name))
  return written.flatMap((name) => known.find((one) => one === name) ?? [])
}
