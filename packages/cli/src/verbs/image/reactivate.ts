/** `image reactivate`: let the data of images be downloaded again. */
import { defineImageVerb } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'reactivate',
  summary: 'Let the data of images be downloaded again',
  operands: 'IMAGE...',
  about: "Undoes 'moraine image deactivate'.",
  examples: [['moraine image reactivate debian-13', 'by name']],
  options: {},
  count: [1, Number.POSITIVE_INFINITY],
  async run(call, _values, names) {
    const [{ done, imagePath }, { forEachImage }] = await Promise.all([
      import('../../image/images.ts'),
      import('../../image/several.ts'),
    ])
    return await forEachImage(call, names, (id) => done(call.session, 'POST', imagePath(id, '/actions/reactivate')))
  },
})
