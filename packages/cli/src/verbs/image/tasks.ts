/** `image tasks`: what the service does, or did, with an image. */
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'tasks',
  summary: 'List the tasks of an image',
  operands: 'IMAGE',
  about: 'Imports, most of all: how far they are, and why they failed.',
  examples: [['moraine image tasks debian-13', 'as a table']],
  options: jsonOutput,
  count: [1, 1],
  async run({ session, context, json }, _values, [name = '']) {
    const { findImageId, getList, imagePath } = await import('../../image/images.ts')
    const { printJson, printTable } = await import('../../image/print.ts')
    const tasks = await getList(session, imagePath(await findImageId(session, name), '/tasks'), 'tasks')
    if (json) return printJson(context.out, tasks)
    const columns = ['id', 'type', 'status', 'created_at', 'message'].map((key) => {
      return { head: key.replace('_at', '').toUpperCase(), value: (task: (typeof tasks)[number]) => task[key] }
    })
    printTable(context.out, columns, tasks)
  },
})
