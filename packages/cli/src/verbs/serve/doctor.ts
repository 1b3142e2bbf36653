/** `serve doctor`: whether the catalog and the stores tell the same story. */
import type { Finding } from '@moraine/server/upkeep'
import { usageFailure } from '../../failure.ts'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'
import { outputChoice } from '../common.ts'

export const verb = defineVerb({
  name: 'serve doctor',
  summary: 'Find images without data and data without an image, and say what to do',
  operands: '',
  syntax: '',
  about:
    'Looks at every image and at everything in the stores, while the service runs or not. Nothing is changed unless --repair is given: then copies that are gone are forgotten, images that have none left go ' +
    'back to queued, and data that no image owns is removed. Exit code 0: all is well, or was put right; 1: it could not look; 2: something is not as it should be.',
  examples: [
    ['moraine serve doctor --data /srv/moraine', 'only looks'],
    ['moraine serve doctor --verify', 'reads all data too, and compares the digests'],
    ['moraine serve doctor --repair', 'puts right what can be'],
  ],
  options: {
    ...sharedSettingOptions,
    repair: { long: 'repair', help: 'Put right what can be.' },
    verify: { long: 'verify', help: 'Read all image data and compare it with its digest.' },
    output: outputChoice,
  },
  async run(values, operands, context) {
    const [surplus] = operands
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { doctor } = await import('@moraine/server/upkeep')
    const found: Finding[] = []
    let images = 0
    const options = {
      repair: values.repair === true,
      verify: values.verify === true,
      signal: context.signal,
      onImage: () => void images++,
    }
    for await (const finding of doctor(givenSettings(values), options)) {
      found.push(finding)
      if (!values.output) context.out.write(`${sentence(finding)}\n`)
    }
    const left = found.filter(({ repaired }) => !repaired).length
    if (values.output) context.out.write(`${JSON.stringify({ images, findings: found }, null, 2)}\n`)
    else context.out.write(`${summary(images, found.length, left)}\n`)
    return left === 0 ? 0 : 2
  },
})

function sentence({ image, store, key, what, remedy, repaired }: Finding): string {
  const place = store === undefined ? '' : `store ${store}, ${key}`
  const subject = image === undefined ? place : `image ${image}${place === '' ? '' : ` (${place})`}`
  return `${subject}: ${what}. ${repaired ? 'Done' : 'To do'}: ${remedy}.`
}

function summary(images: number, found: number, left: number): string {
  const looked = `${images} ${images === 1 ? 'image' : 'images'} looked at`
  if (found === 0) return `${looked}, all is well`
  return `${looked}, ${found} found, ${found - left} put right, ${left} left`
}
