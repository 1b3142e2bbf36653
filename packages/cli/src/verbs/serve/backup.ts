/** `serve backup`: a copy of the catalog. */
import { usageFailure } from '../../failure.ts'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'

export const verb = defineVerb({
  name: 'serve backup',
  summary: 'Write a copy of the catalog, while the service runs or not',
  operands: 'FILE',
  syntax: '',
  about:
    'The copy holds everything but the image data: images, members, tasks, accounts, metadata definitions, as they are at one moment. It is checked before it gets its name. Only its owner may ' +
    'read it, as hashes of passwords are in it. Image data is a folder of files that never change once they are there: copy it after the catalog.',
  examples: [['moraine serve backup --data /srv/moraine /backup/catalog.sqlite', 'while the service runs']],
  options: sharedSettingOptions,
  async run(values, operands, context) {
    const [file, surplus] = operands
    if (file === undefined) throw usageFailure('Expecting the name of the backup')
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { backUp } = await import('@moraine/server/upkeep')
    backUp(givenSettings(values), file)
    context.out.write(`The catalog is copied to ${file}\n`)
    return 0
  },
})
