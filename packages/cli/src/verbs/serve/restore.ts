/** `serve restore`: a backup in the place of the catalog. */
import { usageFailure } from '../../failure.ts'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'

export const verb = defineVerb({
  name: 'serve restore',
  summary: 'Put a backup in the place of the catalog',
  operands: 'FILE',
  syntax: '',
  about:
    'The service must not run. The backup is checked first, and the catalog that is there is kept under another name. Image data that the backup does not know of is kept when the service starts ' +
    'again, until moraine serve doctor --repair removes it.',
  examples: [['moraine serve restore --data /srv/moraine /backup/catalog.sqlite', 'then: moraine serve doctor']],
  options: sharedSettingOptions,
  async run(values, operands, context) {
    const [file, surplus] = operands
    if (file === undefined) throw usageFailure('Expecting the name of a backup')
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { restore } = await import('@moraine/server/upkeep')
    const aside = await restore(givenSettings(values), file)
    context.out.write(`The catalog is restored from ${file}\n`)
    if (aside !== undefined) context.out.write(`The one that was there is kept as ${aside}\n`)
    context.out.write("'moraine serve doctor' tells what of it has data, and what data it does not know\n")
    return 0
  },
})
