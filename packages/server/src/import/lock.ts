/** What an import says about itself in the image, as Glance does: properties that begin with `os_glance_`. */
import { emptied, type Image } from '../catalog/image.ts'

/** The id of the task that imports into the image; no other may, while it is there. */
export const lockProperty = 'os_glance_import_task'
const importingProperty = 'os_glance_importing_to_stores'
const failedProperty = 'os_glance_failed_import'

/** The import was ended from outside: the image is gone, or another task has it. */
export class ImportLost extends Error {}

/** The image with some properties changed; undefined takes one out. */
function withProperties(image: Image, changes: Readonly<Record<string, string | undefined>>): Image {
  const properties = new Map(image.properties)
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) properties.delete(name)
    else properties.set(name, value)
  }
  return { ...image, properties }
}

function merged(image: Image, name: string, add: readonly string[], take: readonly string[]): string {
  const now = (image.properties.get(name) ?? '').split(',').filter((store) => store !== '' && !take.includes(store))
  return [...new Set([...now, ...add])].toSorted().join(',')
}

/** Whether a task brings data into the image, or still looks at it. */
export function isLocked({ properties }: Image): boolean {
  return properties.has(lockProperty)
}

/** Takes the lock. */
export function locked(image: Image, taskId: string): Image {
  return withProperties(image, { [lockProperty]: taskId })
}

/** Notes to which stores data will come. */
export function importing(image: Image, stores: readonly string[]): Image {
  return withProperties(image, {
    [importingProperty]: merged(image, importingProperty, stores, []),
    [failedProperty]: merged(image, failedProperty, [], stores),
  })
}

/** Notes that the data is in a store, or could not be brought there. */
export function arrived(image: Image, store: string, isGood: boolean): Image {
  return withProperties(image, {
    [importingProperty]: merged(image, importingProperty, [], [store]),
    ...(isGood ? {} : { [failedProperty]: merged(image, failedProperty, [store], []) }),
  })
}

/** Lets go. */
export function unlocked(image: Image): Image {
  return withProperties(image, { [lockProperty]: undefined })
}

/** The image after an import that failed: waiting for data again, or as it was before when that was already there. @param staying Stores whose copies stay. */
export function givenUp(image: Image, stores: readonly string[], staying: readonly string[]): Image {
  const kept = image.locations.filter(({ store, status }) => status === 'active' && staying.includes(store))
  const free = unlocked(withProperties(image, { [importingProperty]: merged(image, importingProperty, [], stores) }))
  return kept.length > 0 ? { ...free, locations: kept } : emptied(free)
}

/** @throws ImportLost unless the task has the lock. */
export function holding(image: Image, taskId: string): Image {
  if (image.properties.get(lockProperty) === taskId) return image
  throw new ImportLost('another operation has taken the image over')
}
