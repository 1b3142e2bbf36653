/** `ami`: Amazon's bundles. The verbs below it load what they need when they run. */
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  bundle: () => import('./ami/bundle.ts'),
  unbundle: () => import('./ami/unbundle.ts'),
  info: () => import('./ami/info.ts'),
})

export const verb = defineVerb({
  name: 'ami',
  summary: "Make, open and show bundles, the encrypted parts in which Amazon's images travel",
  operands: 'COMMAND',
  syntax: '',
  about:
    "A bundle is an image in a tar archive, packed, encrypted with a key of its own and cut into parts, beside a signed manifest in XML: the form of EC2's instance-store images, which Eucalyptus " +
    'and older clouds of OpenStack take too. The key is encrypted for the cloud and for the user, with RSA. All goes by once: no copy of the image is kept.',
  examples: [
    ['moraine ami info disk.manifest.xml', 'what is in a bundle, without a key'],
    [
      'moraine ami unbundle disk.manifest.xml disk.img --private-key pk.pem',
      'the image, every digest and the signature checked',
    ],
  ],
  options: {},
  below,
  run: () => 0,
})
