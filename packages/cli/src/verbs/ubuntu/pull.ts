/** `ubuntu pull`: an image of Ubuntu becomes a disk. */
import { catalogueOptions, pullOptions } from '../../catalogue/options.ts'
import { usageFailure } from '../../failure.ts'
import { defineVerb } from '../../verb.ts'

export const verb = defineVerb({
  name: 'ubuntu pull',
  summary: 'Fetch an image of Ubuntu, as a disk of any format',
  operands: 'RELEASE',
  syntax: '',
  about:
    'The release is a codename (noble), a version (24.04), lts or latest. What is fetched goes on where it was cut, is compared with the digest of the signed catalogue, kept in the cache, and ' +
    'converted to the format of the name that is given. What is not whole never has that name.',
  examples: [
    [
      'moraine ubuntu pull noble --to disk.vmdk --size 20G --seed user-data.yaml',
      'a disk that boots, with its seed beside it',
    ],
    ['moraine ubuntu pull 24.04 --arch arm64 --to disk.qcow2', 'for another processor'],
    ['moraine ubuntu pull lts --stream minimal --to disk.qcow2', 'the small image'],
    ['moraine ubuntu pull jammy --kind root.tar.xz', 'what is no disk, as it is'],
  ],
  options: { ...catalogueOptions, ...pullOptions },
  async run(values, operands, context) {
    const [release, surplus] = operands
    if (release === undefined) throw usageFailure('Expecting a release, as in noble, 24.04, lts or latest')
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { pullImage } = await import('../../catalogue/pull.ts')
    return await pullImage(context, 'ubuntu', release, values)
  },
})
