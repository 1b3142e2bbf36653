/** `ubuntu`: Ubuntu's cloud images; the same as `catalog` with its name said. */
import { catalogueOptions } from '../catalogue/options.ts'
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  list: () => import('./ubuntu/list.ts'),
  pull: () => import('./ubuntu/pull.ts'),
})

export const verb = defineVerb({
  name: 'ubuntu',
  summary: "List and pull Ubuntu's cloud images",
  operands: 'COMMAND',
  syntax: '',
  about:
    "Reads Ubuntu's catalogue (simplestreams), verifies its signature by the key that signs Ubuntu's cloud images (UEC Image Automatic Signing Key), which comes with moraine, and fetches " +
    'images that are what it says. The same as moraine catalog for any other distribution. Proxies are taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.',
  examples: [
    ['moraine ubuntu list', "releases that are supported, for this machine's processor"],
    [
      'moraine ubuntu pull noble --to disk.vmdk --size 20G --seed user-data.yaml',
      'a disk that boots, with its seed beside it',
    ],
    ['moraine ubuntu pull lts --mirror /srv/ubuntu --to disk.qcow2', 'from a copy in a folder'],
  ],
  options: catalogueOptions,
  below,
  run: () => 0,
})
