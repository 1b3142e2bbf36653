/** Where an import puts an image. */
import { Failure } from '../failure.ts'
import type { OptionSpec, Values } from '../verb.ts'

/** The options of `import`, and of `push` by way of an import. */
export const storeOptions = {
  stores: {
    long: 'stores',
    argument: 'A,B,...',
    help: 'Import into these stores.',
    parse: (text: string): string[] => text.split(',').filter((store) => store !== ''),
  },
  allStores: { long: 'all-stores', help: 'Import into every store.' },
  allowFailure: { long: 'allow-failure', help: 'Go on with the other stores when one fails.' },
} as const satisfies Record<string, OptionSpec>

/** The part of an import request that is about stores.
 *  @throws Failure */
export function storeRequest({
  stores,
  allStores,
  allowFailure,
}: Values<typeof storeOptions>): Record<string, unknown> {
  if (stores !== undefined && allStores) throw new Failure('--stores contradicts --all-stores')
  const places = { ...(stores !== undefined && { stores }), ...(allStores && { all_stores: true }) }
  // The service's own default is to go on.
  return Object.keys(places).length === 0 ? {} : { ...places, all_stores_must_succeed: !allowFailure }
}
