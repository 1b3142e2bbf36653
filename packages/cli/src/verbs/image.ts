/** `image`: a client of image services. The verbs below it load what they need when they run. */
import { accessOptions } from '../image/access-options.ts'
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  list: () => import('./image/list.ts'),
  show: () => import('./image/show.ts'),
  push: () => import('./image/push.ts'),
  pull: () => import('./image/pull.ts'),
  export: () => import('./image/export.ts'),
  create: () => import('./image/create.ts'),
  set: () => import('./image/set.ts'),
  unset: () => import('./image/unset.ts'),
  delete: () => import('./image/delete.ts'),
  deactivate: () => import('./image/deactivate.ts'),
  reactivate: () => import('./image/reactivate.ts'),
  share: () => import('./image/share.ts'),
  unshare: () => import('./image/unshare.ts'),
  members: () => import('./image/members.ts'),
  accept: () => import('./image/accept.ts'),
  reject: () => import('./image/reject.ts'),
  import: () => import('./image/import.ts'),
  tasks: () => import('./image/tasks.ts'),
  stores: () => import('./image/stores.ts'),
})

export const verb = defineVerb({
  name: 'image',
  summary: 'List, push, pull and manage the images of an OpenStack image service',
  operands: 'COMMAND',
  syntax: '',
  about:
    'Speaks to any service with the OpenStack Image API v2: Glance behind Keystone, or moraine serve. Who is calling, and which cloud is meant, is read from options, from the OS_ ' +
    'variables of the environment, or from clouds.yaml (and secure.yaml) in the current folder, ~/.config/openstack or /etc/openstack. A cloud that is named by --os-cloud or OS_CLOUD is taken ' +
    'from clouds.yaml alone, changed by options only. Proxies are taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.',
  examples: [
    ['moraine image list --os-endpoint http://127.0.0.1:9292', 'a service that asks nobody who they are'],
    [
      'moraine image push --os-cloud home debian.qcow2 --name debian-13',
      "to a cloud of clouds.yaml, after a look at the file's safety",
    ],
    ['moraine image pull debian-13 debian.qcow2', 'resumes where it was cut, and checks what came'],
  ],
  options: accessOptions,
  below,
  run: () => 0,
})
