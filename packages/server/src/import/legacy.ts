/** Tasks of type `import`, as they were before images had an import of their own: they make the image too. */
import { CatalogError } from '../catalog/catalog.ts'
import type { Visibility } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import type { Service } from '../service.ts'
import type { CarriedCertificate } from '../signature/signatures.ts'
import { type Handler, isStopped } from '../task/runner.ts'
import { importHandler } from './import-image.ts'
import { taskInput } from './job.ts'
import { lockProperty } from './lock.ts'

type Log = Parameters<typeof importHandler>[1]

function attributesOf(input: JsonObject): JsonObject {
  const facts = input.image_properties
  return typeof facts === 'object' && facts !== null && !Array.isArray(facts) ? facts : {}
}

/** The additional properties of the image that such a task makes. @param input What was asked for. */
export function legacyProperties(input: JsonObject): Map<string, string> {
  const {
    name: _name,
    visibility: _visibility,
    disk_format: _disk,
    container_format: _container,
    ...rest
  } = attributesOf(input)
  const texts = Object.entries(rest).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return new Map(texts.filter(([property]) => !property.startsWith('os_glance_')))
}

export function legacyImportHandler(service: Service, log: Log): Handler {
  return async (run) => {
    const { id, owner, input } = run.task
    const { catalog, stores } = service
    const { name, visibility, disk_format: diskFormat, container_format: containerFormat } = attributesOf(input)
    const text = (value: unknown) => (typeof value === 'string' ? value : null)
    try {
      // The image has the task's id, so that a second attempt finds it, and is the task's from its first moment.
      await catalog.create({
        ...{ id, owner, name: text(name), containerFormat: text(containerFormat) ?? 'bare' },
        visibility: visibility === 'public' ? ('public' satisfies Visibility) : 'private',
        diskFormat: text(diskFormat) ?? text(input.import_from_format) ?? 'raw',
        properties: new Map([...legacyProperties(input), [lockProperty, id]]),
      })
    } catch (error) {
      if (!(error instanceof CatalogError) || error.kind !== 'taken') throw error
    }
    const certificate = input.certificate as CarriedCertificate | undefined
    const request = { method: { name: 'web-download', uri: String(input.import_from) } }
    const task = {
      ...run.task,
      imageId: id,
      input: taskInput(id, request, [stores.default.id], {}, false, certificate),
    }
    try {
      return await importHandler(service, log)({ ...run, task })
    } catch (error) {
      // As in Glance: an image that never got data does not stay.
      if (!isStopped(run.signal)) await catalog.remove(id, () => {})
      throw error
    }
  }
}
