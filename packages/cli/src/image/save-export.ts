/** An export on its way to a file or to standard output, with what is shown meanwhile and looked at afterwards. */
import { allFormats, findFormat } from '@moraine/engine'
import { optionPairs } from '../options.ts'
import { writeStream } from '../output/pipe.ts'
import { type ProgressOptions, withProgress } from '../output/progress.ts'
import { exportPart, exportStream, verifyExport } from './export.ts'
import type { Pull } from './pull.ts'

/** What is asked of the service. @param lists Options of the format, as `-o` has them. */
export function exportQuery(format: string, lists: readonly string[], compress: boolean): URLSearchParams {
  const query = new URLSearchParams(optionPairs(lists))
  query.set('format', format)
  if (compress) query.set('compress', 'true')
  return query
}

/** Saves an export; a file gets its name when it is whole and was looked at. @param path Undefined: standard output. @param verify Read all of the file again.
 *  @throws NoExport, Failure */
export async function saveExport(
  call: Omit<Pull, 'onProgress'>,
  display: ProgressOptions,
  query: URLSearchParams,
  path: string | undefined,
  verify = false,
): Promise<void> {
  const { context } = call
  if (path === undefined) {
    return await withProgress(context, display, 'export', async ({ onProgress }) => {
      const stream = await exportStream({ ...call, onProgress }, query)
      await writeStream(stream, { signal: context.signal, onProgress })
    })
  }
  const part = await withProgress(context, display, 'export', ({ onProgress }) =>
    exportPart({ ...call, onProgress }, query, path),
  )
  const format = findFormat(allFormats, query.get('format') ?? '')
  try {
    if (verify && format !== undefined) {
      await withProgress(context, display, 'verify', async ({ onProgress }) => {
        if (await verifyExport({ ...call, onProgress }, part.path, format, true)) return
        context.warn(
          "the service has no digest of the disk's content, so its structure was checked and its content was not compared",
        )
      })
    } else if (format !== undefined) {
      await verifyExport({ ...call, onProgress: undefined }, part.path, format, false)
    }
  } catch (error) {
    part.remove()
    throw error
  }
  await part.publish(path)
}
