/** What is to be done so that the images here are those that a catalogue's policy asks for. Nothing is done here: the same plan is the dry run. */
import { type CloudImage, compareSerials, type Definition, glanceArchitecture } from '@moraine/cloud-images'
import type { Image, NewImage } from '../catalog/image.ts'
import type { Source } from './sources.ts'

/** The properties by which an image that came from a catalogue is known again. */
export const originProperties = {
  catalogue: 'moraine_catalogue',
  product: 'product_name',
  version: 'version_name',
  item: 'item_name',
} as const

/** What identifies one build in one catalogue. */
export function identityOf({ product, serial, item }: Pick<CloudImage, 'product' | 'serial' | 'item'>): string {
  return [product, serial, item].join(' ')
}

/** The same, of an image that is here. */
export function identityHere({ properties }: Image): string {
  const { product, version, item } = originProperties
  return [product, version, item].map((name) => properties.get(name) ?? '').join(' ')
}

/** Builds of the same image: of one release, processor and kind. Files are named anew with each build where a catalogue has no products, so the name of the item does not count there. */
function lineOf(image: Image): string {
  const { properties } = image
  const version = properties.get(originProperties.version) ?? ''
  const item = (properties.get(originProperties.item) ?? '').replaceAll(version, '*')
  return [properties.get(originProperties.product), item].join(' ')
}

/** The image as it begins its life here: hidden until all of it is there. */
export function newImageOf(id: string, image: CloudImage, source: Source, definition: Definition): NewImage {
  const disk = definition.disks[image.kind]
  const { distribution, version, architecture, title, serial, product, item } = image
  const firmware: Record<string, string> = disk?.firmware === undefined ? {} : { hw_firmware_type: disk.firmware }
  const properties = {
    ...definition.properties['*'],
    ...definition.properties[architecture],
    ...firmware,
    os_distro: distribution,
    os_version: version,
    architecture: glanceArchitecture(architecture),
    ...source.properties,
    [originProperties.catalogue]: source.name,
    [originProperties.product]: product,
    [originProperties.version]: serial,
    [originProperties.item]: item,
  }
  return {
    id,
    name: `${definition.title} ${title} ${architecture} ${serial}`,
    owner: source.owner,
    visibility: source.visibility,
    diskFormat: disk?.format ?? 'raw',
    containerFormat: 'bare',
    hidden: true,
    properties: new Map(Object.entries(properties)),
  }
}

/** What becomes of the images that are here. */
export interface Settlement {
  readonly show: readonly Image[]
  readonly hide: readonly Image[]
  readonly remove: readonly Image[]
}

/** Settles which images are shown, hidden and deleted: of the builds of each image whose data is here the newest is shown, as many as are to be kept stay, and the others go. What is not whole does not
 *  count, so that no image is taken away before its successor is there.
 *  @param here Images of this catalogue, and of its owner. */
export function settle(here: readonly Image[], { keep, superseded, expired }: Source): Settlement {
  const show: Image[] = []
  const hide: Image[] = []
  const remove: Image[] = []
  const whole = here.filter(({ status }) => status === 'active' || status === 'deactivated')
  const byName = whole.toSorted((one, other) => ((one.name ?? '') < (other.name ?? '') ? -1 : 1))
  const lines = Map.groupBy(byName, lineOf)
  for (const images of lines.values()) {
    const newestFirst = images.toSorted((one, other) => compareSerials(serialOf(other), serialOf(one)))
    for (const [at, image] of newestFirst.entries()) {
      const shown = at === 0 || (at < keep && superseded === 'show')
      if (at >= keep && expired === 'delete' && !image.protected) remove.push(image)
      else if (shown && image.hidden) show.push(image)
      else if (!shown && !image.hidden) hide.push(image)
    }
  }
  return { show, hide, remove }
}

function serialOf({ properties }: Image): string {
  return properties.get(originProperties.version) ?? ''
}
