/** `ova`: appliances. The verbs below it load what they need when they run. */
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  create: () => import('./ova/create.ts'),
  info: () => import('./ova/info.ts'),
  check: () => import('./ova/check.ts'),
  extract: () => import('./ova/extract.ts'),
  set: () => import('./ova/set.ts'),
})

export const verb = defineVerb({
  name: 'ova',
  summary: 'Make, show, check, change and take apart appliances (OVA and OVF)',
  operands: 'COMMAND',
  syntax: '',
  about:
    'Works on appliances as VMware, VirtualBox and others exchange them: an OVA, or an OVF descriptor with its files beside it. The disks in one are images like any other for all verbs of this command: ' +
    'box.ova where there is one disk, box.ova#disk2 where there are several.',
  examples: [
    ['moraine ova info box.ova', 'the machine in it'],
    ['moraine convert -O qcow2 box.ova disk.qcow2', 'its disk, without unpacking anything first'],
  ],
  options: {},
  below,
  run: () => 0,
})
