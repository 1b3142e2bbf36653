/** `image delete`: images are gone, with their data. */
import { usageFailure } from '../../failure.ts'
import { defineImageVerb } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'delete',
  summary: 'Delete images',
  operands: 'IMAGE...',
  about: 'With --store only the copies in that store are deleted.',
  examples: [['moraine image delete old-1 old-2', 'several; one that fails does not keep the others']],
  options: { store: { long: 'store', argument: 'STORE', help: 'Only the copy in this store.' } },
  count: [1, Number.POSITIVE_INFINITY],
  async run(call, { store }, names) {
    const [{ deleteImage, done }, { forEachImage }] = await Promise.all([
      import('../../image/images.ts'),
      import('../../image/several.ts'),
    ])
    if (store === '') throw usageFailure('--store must be used with the name of a store')
    return await forEachImage(call, names, async (id) => {
      if (store === undefined) await deleteImage(call.session, id)
      else await done(call.session, 'DELETE', `/v2/stores/${encodeURIComponent(store)}/${encodeURIComponent(id)}`)
    })
  },
})
