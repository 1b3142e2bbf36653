/** `catalog pull`: an image of a distribution becomes a disk. */
import { catalogueOptions, pullOptions } from '../../catalogue/options.ts'
import { usageFailure } from '../../failure.ts'
import { defineVerb } from '../../verb.ts'

export const verb = defineVerb({
  name: 'catalog pull',
  summary: 'Fetch an image of a distribution, as a disk of any format',
  operands: 'DISTRIBUTION:RELEASE',
  syntax: '',
  about:
    'The release is a version, a codename, or latest. What is fetched goes on where it was cut, is compared with the digest of the catalogue, kept in the cache, and converted to the format of ' +
    'the name that is given. What is not whole never has that name.',
  examples: [
    ['moraine catalog pull fedora:43 --to disk.vhdx', 'in the format of the name'],
    ['moraine catalog pull debian:12 --unsigned --to disk.qcow2 --size 20G', 'Debian does not sign its cloud images'],
    ['moraine catalog pull rocky:latest', "the publisher's own file"],
  ],
  options: { ...catalogueOptions, ...pullOptions },
  async run(values, operands, context) {
    const [reference, surplus] = operands
    if (reference === undefined) throw usageFailure('Expecting a distribution and a release, as in debian:12')
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { readReference } = await import('../../catalogue/open.ts')
    const { distribution, release } = readReference(reference)
    if (release === undefined) throw usageFailure(`Expecting a release, as in ${distribution}:latest`)
    const { pullImage } = await import('../../catalogue/pull.ts')
    return await pullImage(context, distribution, release, values)
  },
})
