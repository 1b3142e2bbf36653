/** `image reject`: refuse an image that another project shares. */
import { defineImageVerb } from '../../image/image-verb.ts'
import { projectOption } from '../../image/share-options.ts'

export const verb = defineImageVerb({
  name: 'reject',
  summary: 'Refuse an image that another project shares',
  operands: 'IMAGE',
  about: 'The image is no longer in the list of the project, which can accept it later.',
  examples: [['moraine image reject debian-13', "for the caller's project"]],
  options: projectOption,
  count: [1, 1],
  async run(call, { project }, [name = '']) {
    const { answerShare } = await import('../../image/answer-share.ts')
    await answerShare(call, name, project, 'rejected')
  },
})
