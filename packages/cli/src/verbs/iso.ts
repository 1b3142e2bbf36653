/** `iso`: the files of ISO 9660 images. The verbs below it load what they need when they run. */
import { defineVerb, subVerbs } from '../verb.ts'

const below = subVerbs({
  create: () => import('./iso/create.ts'),
  info: () => import('./iso/info.ts'),
  list: () => import('./iso/list.ts'),
  extract: () => import('./iso/extract.ts'),
})

export const verb = defineVerb({
  name: 'iso',
  summary: 'Make, show, list and extract ISO 9660 images',
  operands: 'COMMAND',
  syntax: '',
  about:
    'Makes and reads the images of optical discs: ISO 9660 with Rock Ridge, Joliet, or plain names. An image is read where it is: packed with gzip, xz, zstd and the like, in a zip (FILE#MEMBER), or ' +
    'as the content of a qcow2 or any other disk image.',
  examples: [
    ['moraine iso create data.iso folder', 'with Joliet and Rock Ridge'],
    ['moraine iso list debian.iso "install*/**"', 'what a directory holds'],
    ['moraine iso extract debian.iso install.amd/vmlinuz --to boot', 'one file'],
  ],
  options: {},
  below,
  run: () => 0,
})
