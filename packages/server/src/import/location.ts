/** Data that was added by its address: looked at where it lies, and, when the settings say so, read once for its digests. */
import { inspectSource } from '@moraine/engine'
import type { Image, Location } from '../catalog/image.ts'
import { emptied, readableLocations } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import { judgeAppliance } from '../inspect/appliance.ts'
import { claimOf, judge, judgeBootKind, virtualSizeOf } from '../inspect/judge.ts'
import type { Service } from '../service.ts'
import { takeIn } from '../store/intake.ts'
import type { StoreUpload } from '../store/store.ts'
import { type Handler, isStopped } from '../task/runner.ts'
import { bytesOf } from './body.ts'
import { ImportFailed } from './explain.ts'
import { holding, ImportLost, unlocked } from './lock.ts'

type Log = { error(facts: object, text: string): void }

/** What the client says the data is. */
interface Expected {
  checksum?: string
  hashValue?: string
}

/** Looks at data where it lies, by ranges. @throws RefusedContent, ImportFailed, and the store's own errors. */
export async function lookAt(
  { config, stores }: Pick<Service, 'config' | 'stores'>,
  image: Image,
  { store, key }: Location,
): Promise<{ size: number; virtualSize: number | null }> {
  const open = () => stores.dataOf(store).open(key)
  const source = await open()
  try {
    if (source.size > config.imageSizeCap) throw new ImportFailed('the image is too large')
    const claim = claimOf(config, image)
    const finding = judge(await inspectSource(source), claim, true)
    await judgeBootKind(source, claim)
    await judgeAppliance(open, claim)
    return { size: source.size, virtualSize: await virtualSizeOf(open, claim, finding, source.size) }
  } finally {
    await source.close()
  }
}

export function locationHandler(service: Service, log: Log): Handler {
  return async ({ task, signal, begin, report }) => {
    const { catalog, config, stores, hashes } = service
    const id = task.imageId ?? ''
    const expected = (task.input.expected ?? {}) as Expected
    const change = async (apply: (image: Image) => Image): Promise<Image> => {
      const image = await catalog.update(id, apply)
      if (image === undefined) throw new ImportLost('the image was deleted')
      return image
    }
    const image = await change((now) => holding(now, task.id))
    const [location] = readableLocations(image)
    if (location === undefined) throw new ImportLost('the location is gone')
    try {
      begin()
      const source = await stores.dataOf(location.store).open(location.key)
      try {
        const facts = await lookAt(service, image, location)
        await change((now) => ({
          ...holding(now, task.id),
          ...facts,
          ...{ status: 'active', checksum: expected.checksum ?? null },
          ...(expected.hashValue === undefined ? {} : { hashAlgorithm: 'sha512', hashValue: expected.hashValue }),
        }))
        if (config.secureHash) {
          let seen = 0
          const { digests } = await takeIn(bytesOf(source, signal), nowhere, {
            ...{ hashes, algorithms: ['md5', 'sha512'], headBytes: 1, onHead: async () => {} },
            onBytes: (length) => {
              seen += length
              report(seen / source.size, `Hashed ${Math.floor(seen / 2 ** 20)} MiB`)
            },
          })
          compare(expected, { checksum: digests.md5, hashValue: digests.sha512 })
          await change((now) => ({
            ...unlocked(holding(now, task.id)),
            ...{ checksum: digests.md5, hashAlgorithm: 'sha512', hashValue: digests.sha512 },
          }))
        } else await change((now) => unlocked(holding(now, task.id)))
        return { image_id: id }
      } finally {
        await source.close()
      }
    } catch (error) {
      if (!isStopped(signal) && !(error instanceof ImportLost)) {
        await catalog
          .update(id, (now) => unlocked(emptied(holding(now, task.id))))
          .catch((second: unknown) => log.error({ err: second, image: id }, 'an image cannot be put back'))
      }
      throw error
    }
  }
}

function compare(expected: Expected, found: Required<Expected>): void {
  for (const name of ['checksum', 'hashValue'] as const) {
    const value = expected[name]
    if (value === undefined || value.toLowerCase() === found[name]) continue
    throw new ImportFailed(
      `the data is not what was said: its ${name === 'checksum' ? 'MD5' : 'SHA-512'} is ${found[name]}`,
    )
  }
}

/** For data that is only read. */
const nowhere: StoreUpload = {
  write: async () => {},
  read: () => Promise.reject(new Error('nothing was kept')),
  commit: async () => {},
  abort: async () => {},
}

/** The input of such a task. */
export function locationInput(imageId: string, url: string, expected: Expected): JsonObject {
  return { image_id: imageId, loc_url: url, expected: { ...expected } }
}
