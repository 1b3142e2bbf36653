/** `image push`: a file becomes an image. */
import { basename } from 'node:path'
import { usageFailure } from '../../failure.ts'
import { defineImageVerb } from '../../image/image-verb.ts'
import type { ImageDocument } from '../../image/images.ts'
import { pushOptions } from '../../image/push-options.ts'

export const verb = defineImageVerb({
  name: 'push',
  summary: 'Create an image from a file',
  operands: 'FILE | NAME --kernel=FILE --ramdisk=FILE --root=FILE',
  about:
    "The file is looked at first, as 'moraine inspect' does: its format is found out, and a file that would make its reader open others, or contradicts itself, is refused. What is sent is hashed " +
    'on the way and compared with what the service says it has. When the push fails, the image that it created is deleted again (--keep keeps it); an upload by tus is kept, to be resumed. ' +
    "With --kernel, --ramdisk and --root three images are made: NAME-kernel (aki), NAME-ramdisk (ari) and NAME (ami), which boots with the other two (kernel_id, ramdisk_id). It is all of them or none; properties are NAME's, tags and visibility those " +
    'of all three.',
  examples: [
    ['moraine image push debian-13.qcow2', 'name and format are found out'],
    ['moraine image push --convert-to raw debian.vmdk.gz --name debian-13', 'unpacked and converted on the way'],
    ['moraine image push --method tus big.raw', 'resumable'],
    ['moraine image push --resume big.raw big.raw', 'after it was cut'],
    [
      'moraine image push tiny --kernel vmlinuz --ramdisk initrd.img --root root.img',
      'a kernel, a ramdisk and what they boot',
    ],
    [
      'moraine image push --method web-download --uri https://example.org/a.qcow2 --disk-format qcow2',
      'fetched by the service',
    ],
  ],
  options: pushOptions,
  count: [0, 1],
  async run({ session, context, json }, values, [file]) {
    const { push, pushFromWeb } = await import('../../image/push.ts')
    const show = async (image: ImageDocument): Promise<void> => {
      const { printImage, printJson } = await import('../../image/print.ts')
      if (json) printJson(context.out, image)
      else if (values.quiet) context.out.write(`${image.id}\n`)
      else printImage(context.out, image)
    }
    const several = values.kernel !== undefined || values.ramdisk !== undefined || values.root !== undefined
    if (values.dryRun) {
      if (several || values.uri !== undefined || values.resume !== undefined || file === undefined) {
        throw usageFailure('--dry-run takes one FILE, and neither --uri nor --resume nor --kernel')
      }
      const { planPush } = await import('../../image/push.ts')
      const { printPlan } = await import('../../dry-run.ts')
      printPlan(context, await planPush(context, { file, name: basename(file) }, values), json)
      return
    }
    if (several) {
      const { pushTrio } = await import('../../image/push-trio.ts')
      await show(await pushTrio(session, context, file, values))
      return
    }
    const web = values.method === 'web-download' || (values.method === undefined && values.uri !== undefined)
    if (web !== (values.uri !== undefined))
      throw usageFailure(web ? 'web-download needs --uri' : '--uri belongs to web-download')
    if (web && file !== undefined) throw usageFailure('web-download takes no file')
    if (!web && file === undefined) throw usageFailure('Expecting FILE')
    const image = web
      ? await pushFromWeb(session, values)
      : await push(session, context, { file: file ?? '', name: basename(file ?? '') }, values)
    await show(image)
  },
})
