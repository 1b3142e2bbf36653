/** Tasks of type `import`, as they were before images had an import of their own: they make the image too. */
import { CatalogError } from '../catalog/catalog.ts'
import type { Visibility } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import type { Service } from '../service.ts'
import { type Handler, isStopped } from '../task/runner.ts'
import { importHandler } from './import-image.ts'
import { taskInput } from './job.ts'
import { locked } from './lock.ts'

type Log = Parameters<typeof importHandler>[1]

export function legacyImportHandler(service: Service, log: Log): Handler {
  return async (run) => {
    const { id, owner, input } = run.task
    const { catalog, stores } = service
    const facts = (input.image_properties ?? {}) as JsonObject
    const { name, visibility, disk_format: diskFormat, container_format: containerFormat, ...rest } = facts
    const text = (value: unknown) => (typeof value === 'string' ? value : null)
    const others = Object.entries(rest).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
    try {
      // The image has the task's id, so that a second attempt finds it.
      await catalog.create({
        ...{ id, owner, name: text(name), containerFormat: text(containerFormat) ?? 'bare' },
        visibility: visibility === 'public' ? ('public' satisfies Visibility) : 'private',
        diskFormat: text(diskFormat) ?? text(input.import_from_format) ?? 'raw',
        properties: new Map(others.filter(([property]) => !property.startsWith('os_glance_'))),
      })
      await catalog.update(id, (image) => locked(image, id))
    } catch (error) {
      if (!(error instanceof CatalogError) || error.kind !== 'taken') throw error
    }
    const request = { method: { name: 'web-download', uri: String(input.import_from) } }
    const task = { ...run.task, imageId: id, input: taskInput(id, request, [stores.default.id], {}) }
    try {
      return await importHandler(service, log)({ ...run, task })
    } catch (error) {
      // As in Glance: an image that never got data does not stay.
      if (!isStopped(run.signal)) await catalog.remove(id, () => {})
      throw error
    }
  }
}
