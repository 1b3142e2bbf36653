/** `image deactivate`: keep the data of images from being downloaded. */
import { defineImageVerb } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'deactivate',
  summary: 'Keep the data of images from being downloaded',
  operands: 'IMAGE...',
  about: 'Nobody but administrators can download it until it is reactivated.',
  examples: [['moraine image deactivate debian-13', 'by name']],
  options: {},
  count: [1, Number.POSITIVE_INFINITY],
  async run(call, _values, names) {
    const [{ done, imagePath }, { forEachImage }] = await Promise.all([
      import('../../image/images.ts'),
      import('../../image/several.ts'),
    ])
    return await forEachImage(call, names, (id) => done(call.session, 'POST', imagePath(id, '/actions/deactivate')))
  },
})
