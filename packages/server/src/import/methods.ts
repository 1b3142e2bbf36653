/** The ways of importing, as the API names them. */
import type { Config } from '../config.ts'

export const methodNames = ['glance-direct', 'web-download', 'copy-image', 'glance-download'] as const
export type MethodName = (typeof methodNames)[number]

/** Those that the settings offer, in the order of the setting. */
export function importMethods({ importMethods: setting }: Pick<Config, 'importMethods'>): MethodName[] {
  const written = setting.split(',').map((name) => name.trim())
  return written.flatMap((name) => methodNames.find((one) => one === name) ?? [])
}
