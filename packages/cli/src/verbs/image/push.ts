/** `image push`: a file becomes an image. */
import { basename } from 'node:path'
import type { WritePlan } from '../../dry-run.ts'
import { usageFailure } from '../../failure.ts'
import { defineImageVerb } from '../../image/image-verb.ts'
import type { ImageDocument } from '../../image/images.ts'
import type { PushValues } from '../../image/push.ts'
import { pushOptions } from '../../image/push-options.ts'
import type { Session } from '../../image/session.ts'
import type { Context } from '../../verb.ts'

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
    const { plan, push } = await chosenWay(session, context, values, file)
    if (values.dryRun) {
      const { printPlan } = await import('../../dry-run.ts')
      printPlan(context, await plan(), json)
      return
    }
    const image = await push()
    const { printImage, printJson } = await import('../../image/print.ts')
    if (json) printJson(context.out, image)
    else if (values.quiet) context.out.write(`${image.id}\n`)
    else printImage(context.out, image)
  },
})

/** How an image gets into the service, and what that would make. */
interface Way {
  plan(): WritePlan | Promise<WritePlan>
  push(): Promise<ImageDocument>
}

async function chosenWay(
  session: Session,
  context: Context,
  values: PushValues,
  operand: string | undefined,
): Promise<Way> {
  const { kernel, ramdisk, root, method, uri } = values
  if (kernel !== undefined || ramdisk !== undefined || root !== undefined) {
    const { planTrio, pushTrio } = await import('../../image/push-trio.ts')
    return {
      plan: () => planTrio(context, operand, values),
      push: () => pushTrio(session, context, operand, values),
    }
  }
  const { planFromWeb, planPush, push, pushFromWeb } = await import('../../image/push.ts')
  if (method === 'web-download' || (method === undefined && uri !== undefined)) {
    if (uri === undefined) throw usageFailure('web-download needs --uri')
    if (operand !== undefined) throw usageFailure('web-download takes no file')
    return { plan: () => planFromWeb(values), push: () => pushFromWeb(session, values) }
  }
  if (uri !== undefined) throw usageFailure('--uri belongs to web-download')
  if (operand === undefined) throw usageFailure('Expecting FILE')
  const file = { file: operand, name: basename(operand) }
  return { plan: () => planPush(context, file, values), push: () => push(session, context, file, values) }
}
