/** `image stores`: where the service keeps images. */
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'stores',
  summary: 'List the stores of the service',
  operands: '',
  about: 'A service with a single store has no list of them.',
  examples: [['moraine image stores', 'as a table']],
  options: jsonOutput,
  count: [0, 0],
  async run({ session, context, json }) {
    const { getList } = await import('../../image/images.ts')
    const { printJson, printTable } = await import('../../image/print.ts')
    const stores = await getList(session, '/v2/info/stores', 'stores')
    if (json) return printJson(context.out, stores)
    type Store = (typeof stores)[number]
    const columns = [
      { head: 'STORE', value: ({ id }: Store) => id },
      { head: 'DEFAULT', value: (store: Store) => (String(store.default) === 'true' ? 'yes' : undefined) },
      { head: 'READ-ONLY', value: (store: Store) => (String(store['read-only']) === 'true' ? 'yes' : undefined) },
      { head: 'DESCRIPTION', value: ({ description }: Store) => description },
    ]
    printTable(context.out, columns, stores)
  },
})
