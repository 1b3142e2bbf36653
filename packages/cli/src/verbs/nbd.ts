/** `nbd`: network block devices. The verbs below it load what they need when they run. */
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  serve: () => import('./nbd/serve.ts'),
  list: () => import('./nbd/list.ts'),
})

export const verb = defineVerb({
  name: 'nbd',
  summary: 'Export images as network block devices, and look at the exports of others',
  operands: 'COMMAND',
  syntax: '',
  about:
    'NBD is how QEMU, nbdkit, libnbd and the Linux kernel share disks over a socket. An export of any server can stand wherever an image can: ' +
    'nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, with TLS nbds:// and nbds+unix://.',
  examples: [
    ['moraine nbd serve -t disk.qcow2 --socket disk.sock', 'export an image'],
    ['moraine nbd list nbd://storage', 'what a server has'],
  ],
  options: {},
  below,
  run: () => 0,
})
