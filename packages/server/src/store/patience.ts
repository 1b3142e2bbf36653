/** A store that is waited for only so long: one that stalls (a network file system whose server is gone) fails one request, and holds nothing up. */
import type { ByteSource, Extent } from '@moraine/engine'
import { type ImageStore, StoreError, type StoreUpload } from './store.ts'

/** The same store, whose every step ends within `seconds`. What a step that was given up still brings is closed, or taken back.
 *  @throws StoreError `stalled`. */
export function withPatience(store: ImageStore, seconds: number): ImageStore {
  const within = <Result>(step: Promise<Result>, what: string, undo?: (late: Result) => Promise<void>) =>
    waited(step, seconds, `${what} has taken more than ${seconds} s`, undo)
  const upload = (real: StoreUpload) => patientUpload(real, within)
  const { resume, link } = store
  return {
    description: store.description,
    properties: store.properties,
    begin: async (key, expected) =>
      upload(await within(store.begin(key, expected), 'making a file', (late) => late.abort())),
    ...(resume !== undefined && {
      resume: async (key: string, offset: number, as?: string) =>
        upload(
          await within(
            resume.call(store, key, offset, as),
            'opening a file',
            async (late) => void (await late.suspend?.()),
          ),
        ),
    }),
    ...(link !== undefined && {
      link: (key: string, path: string) => within(link.call(store, key, path), 'naming a file'),
    }),
    open: async (key) => patientSource(await within(store.open(key), 'opening data', (late) => late.close()), within),
    remove: (key) => within(store.remove(key), 'removing data'),
    urlOf: (key) => store.urlOf(key),
    keyOf: (url) => store.keyOf(url),
    // It goes through everything, and nobody waits for it.
    sweep: (isKnown) => store.sweep(isKnown),
  }
}

type Within = <Result>(step: Promise<Result>, what: string, undo?: (late: Result) => Promise<void>) => Promise<Result>

function patientUpload(real: StoreUpload, within: Within): StoreUpload {
  const { suspend, flush } = real
  return {
    write: (bytes) => within(real.write(bytes), 'writing'),
    read: async () => patientSource(await within(real.read(), 'opening data', (late) => late.close()), within),
    commit: () => within(real.commit(), 'bringing data to the disk'),
    abort: () => within(real.abort(), 'taking data back'),
    ...(suspend !== undefined && { suspend: () => within(suspend.call(real), 'bringing data to the disk') }),
    ...(flush !== undefined && { flush: () => within(flush.call(real), 'bringing data to the disk') }),
  }
}

function patientSource(real: ByteSource, within: Within): ByteSource {
  return {
    name: real.name,
    size: real.size,
    // Into bytes of its own where the reader would get its back while they are still written to: never, since a read that was given up is an error
    // to all readers, and none uses its bytes again.
    read: (offset, into, signal) => within(real.read(offset, into, signal), 'reading'),
    extents: (offset, length): AsyncIterable<Extent[]> => real.extents(offset, length),
    close: () => within(real.close(), 'closing'),
  }
}

async function waited<Result>(
  step: Promise<Result>,
  seconds: number,
  what: string,
  undo?: (late: Result) => Promise<void>,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  let isLate = false
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      isLate = true
      reject(new StoreError('stalled', what))
    }, seconds * 1000)
  })
  step
    .then(
      (late) => (isLate ? undo?.(late) : undefined),
      () => {},
    )
    .catch(() => {})
  try {
    return await Promise.race([step, end])
  } finally {
    clearTimeout(timer)
  }
}
