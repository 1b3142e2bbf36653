/** An image as the API shows it. */
import { type Image, readableLocations } from '../../catalog/image.ts'
import type { Caller } from '../../identity/caller.ts'
import type { Service } from '../../service.ts'
import { mayOn } from './access.ts'
import { shownLocations } from './locations.ts'

/** Seconds since 1970 as `YYYY-MM-DDTHH:MM:SSZ`. */
export function isoTime(seconds: number): string {
  return `${new Date(seconds * 1000).toISOString().slice(0, -'.000Z'.length)}Z`
}

/** Additional properties stand beside the attributes; attributes win. */
export function imageDocument(service: Service, image: Image, caller: Caller): Record<string, unknown> {
  const { stores, config } = service
  const path = `/v2/images/${image.id}`
  // One shape for all, and what differs behind it: made in another order, a list takes twice as long to write.
  const document: Record<string, unknown> = {
    name: image.name,
    disk_format: image.diskFormat,
    container_format: image.containerFormat,
    visibility: image.visibility,
    size: image.size,
    virtual_size: image.virtualSize,
    status: image.status,
    checksum: image.checksum,
    protected: image.protected,
    min_ram: image.minRam,
    min_disk: image.minDisk,
    owner: image.owner,
    os_hidden: image.hidden,
    os_hash_algo: image.hashAlgorithm,
    os_hash_value: image.hashValue,
    id: image.id,
    created_at: isoTime(image.createdAt),
    updated_at: isoTime(image.updatedAt),
    tags: image.tags,
    self: path,
    file: `${path}/file`,
    schema: '/v2/schemas/image',
  }
  const copies = readableLocations(image)
  if ((config.showLocations || config.showDirectUrl) && mayOn(service, 'get_image_location', image, caller)) {
    const locations = shownLocations(service, image)
    if (config.showLocations) document.locations = locations
    if (config.showDirectUrl && locations[0] !== undefined) document.direct_url = locations[0].url
  }
  if (stores.multiple && copies.length > 0) document.stores = copies.map(({ store }) => store).join(',')
  const { protections } = service
  for (const [name, value] of image.properties) {
    if (protections.isOn && !protections.allows('read', name, caller)) continue
    if (name === '__proto__') Object.defineProperty(document, name, { value, enumerable: true })
    else if (!Object.hasOwn(document, name)) document[name] = value
  }
  return document
}
