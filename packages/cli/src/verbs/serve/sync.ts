/** `serve sync`: looks at the catalogues of cloud images now. */
import type { SyncResult } from '@moraine/server/upkeep'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'
import { outputChoice } from '../common.ts'

export const verb = defineVerb({
  name: 'serve sync',
  summary: 'Bring the images in step with catalogues of cloud images',
  operands: '[CATALOGUE]...',
  syntax: '',
  about:
    'Looks at the catalogues that the setting catalogueFile names, as the service does by itself every catalogueHours: imports builds that are missing, shows the newest of each release, hides those ' +
    'that are superseded and deletes those that are not kept. While the service runs or not; two looks at one catalogue never work at once. Exit code 0: all is in step; 1: it could not look; 2: some images could not be brought.',
  examples: [
    ['moraine serve sync --catalogue-file /etc/moraine/catalogues.yaml --dry-run', 'only tells what it would do'],
    ['moraine serve sync ubuntu --output=json', 'one of them, for programs'],
  ],
  options: {
    ...sharedSettingOptions,
    dryRun: { long: 'dry-run', help: 'Only tell what would be done.' },
    output: outputChoice,
  },
  async run(values, operands, context) {
    const { sync } = await import('@moraine/server/upkeep')
    const json = values.output === true
    const results: SyncResult[] = []
    const options = { names: operands, dryRun: values.dryRun === true, signal: context.signal }
    for await (const result of sync(givenSettings(values), options)) {
      results.push(result)
      if (!json) context.out.write(text(result))
      context.out.flush()
    }
    if (json) context.out.write(`${JSON.stringify(results, null, 2)}\n`)
    return results.some(({ failed }) => failed.length > 0) ? 2 : 0
  },
})

function text({ catalogue, dryRun, skipped, imported, shown, hidden, deleted, failed }: SyncResult): string {
  if (skipped) return `${catalogue}: another look at it is under way\n`
  const would = dryRun ? 'would be ' : ''
  const lines = [
    ...imported.map((name) => `${would}imported: ${name}`),
    ...shown.map((name) => `${would}shown: ${name}`),
    ...hidden.map((name) => `${would}hidden: ${name}`),
    ...deleted.map((name) => `${would}deleted: ${name}`),
    ...failed.map(({ name, reason }) => `failed: ${name}: ${reason}`),
  ]
  return lines.length === 0 ? `${catalogue}: all is in step\n` : lines.map((line) => `${catalogue}: ${line}\n`).join('')
}
