/** `catalog`: images of distributions, from the catalogues of their publishers. The verbs below it load what they need when they run. */
import { catalogueOptions } from '../catalogue/options.ts'
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  list: () => import('./catalog/list.ts'),
  pull: () => import('./catalog/pull.ts'),
})

export const verb = defineVerb({
  name: 'catalog',
  summary: 'List and pull the cloud images of Ubuntu, Debian, Fedora, Alpine and Rocky',
  operands: 'COMMAND',
  syntax: '',
  about:
    "Reads the catalogue that a distribution publishes of its cloud images, verifies its signature by the publisher's key, and fetches images that are what it says. " +
    'Keys of Ubuntu, Fedora, Rocky and Debian come with moraine; Debian does not sign its cloud images (--unsigned), and the key of Alpine must be given (--keyring). ' +
    'Proxies are taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.',
  examples: [
    ['moraine catalog list', 'which catalogues there are'],
    ['moraine catalog list fedora', "Fedora's images for this machine's processor"],
    ['moraine catalog pull rocky:9 --to disk.qcow2 --size 20G', 'a disk to boot'],
  ],
  options: catalogueOptions,
  below,
  run: () => 0,
})
