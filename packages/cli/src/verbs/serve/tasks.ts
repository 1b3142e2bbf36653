/** `serve tasks`: what the service is at, and how to end it. */
import type { TaskFacts } from '@moraine/server/upkeep'
import { usageFailure } from '../../failure.ts'
import { plainText } from '../../image/error-text.ts'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'
import { outputChoice } from '../common.ts'

export const verb = defineVerb({
  name: 'serve tasks',
  summary: 'Show the long work of the service, and cancel it',
  operands: '[TASK]...',
  syntax: '',
  about:
    'Lists imports and looks at catalogues that run or wait for their turn, while the service runs or not. With --cancel the tasks that are named end: the process that runs one ends it within seconds and ' +
    'leaves its image as a failed import does; one that nobody runs is ended by the service when it takes it up.',
  examples: [
    ['moraine serve tasks --data /srv/moraine', 'what runs and what waits'],
    ['moraine serve tasks --all --output=json', 'also what is over, for programs'],
    ['moraine serve tasks --cancel 0d8c2c2e-6a3f-4a7c-9d0c-0a4d5a6f7b81', ''],
  ],
  options: {
    ...sharedSettingOptions,
    all: { long: 'all', help: 'Also those that are over and not yet forgotten.' },
    cancel: { long: 'cancel', help: 'End the tasks that are named.' },
    output: outputChoice,
  },
  async run(values, operands, context) {
    const { cancelTask, tasks } = await import('@moraine/server/upkeep')
    const settings = givenSettings(values)
    if (values.cancel === true) {
      if (operands.length === 0) throw usageFailure('--cancel: which task?')
      for (const id of operands) {
        await cancelTask(settings, id)
        context.out.write(`Task ${id} is told to end\n`)
      }
      return 0
    }
    const json = values.output === true
    const chosen: TaskFacts[] = []
    // One that is named may be over.
    for await (const task of tasks(settings, { all: values.all === true || operands.length > 0 })) {
      if (operands.length > 0 && !operands.includes(task.id)) continue
      chosen.push(task)
      // Servers that were asked have their say in it.
      if (!json) context.out.write(`${plainText(sentence(task))}\n`)
    }
    if (json) context.out.write(`${JSON.stringify(chosen, null, 2)}\n`)
    return 0
  },
})

const work: Readonly<Record<TaskFacts['type'], string>> = {
  api_image_import: 'import',
  location_import: 'location',
  import: 'import of old',
  catalogue_sync: 'look at catalogue',
}

function sentence({ id, type, status, imageId, catalogue, progress, message, cancelled, createdAt }: TaskFacts) {
  const subject = imageId === null ? (catalogue ?? '') : `image ${imageId}`
  const share = progress === null ? '' : `${Math.floor(progress * 100)} %`
  const told = cancelled !== null && (status === 'pending' || status === 'processing') ? 'told to end' : ''
  const parts = [`${work[type]} ${subject}`.trim(), status, share, message, told, `since ${createdAt}`]
  return `${id}  ${parts.filter((part) => part !== '').join(', ')}`
}
