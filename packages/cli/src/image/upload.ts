/** Sending image data in one request: straight to the store, or to the stage from which an import takes it. */
import type { Progress } from '@moraine/engine'
import { Digests } from './digests.ts'
import { discard } from './http.ts'
import { type ImageDocument, imagePath } from './images.ts'
import type { PushSource } from './push-source.ts'
import type { Session } from './session.ts'

/** One upload. */
export interface Upload {
  /** As it was created. */
  image: ImageDocument
  source: PushSource
  onProgress: ((progress: Progress) => void) | undefined
}

/** Sends all of it to `/file` or `/stage`; the digests of what was sent.
 *  @throws HttpFailure, ConnectionFailure, MoraineError */
export async function sendWhole(
  session: Session,
  to: '/file' | '/stage',
  { image, source, onProgress }: Upload,
  store?: string | undefined,
): Promise<Digests> {
  let digests = Digests.toSend(image)
  async function* body(): AsyncIterable<Uint8Array> {
    // A new token means a new attempt.
    digests = Digests.toSend(image)
    for await (const chunk of source.chunks(0, session.signal)) {
      digests.update(chunk)
      yield chunk
      onProgress?.({ done: digests.size, total: source.length ?? 0 })
    }
  }
  const length = source.length === undefined ? undefined : String(source.length)
  const headers = {
    'content-type': 'application/octet-stream',
    'content-length': length,
    'x-openstack-image-size': length,
    'x-image-meta-store': store,
  }
  const answer = await session.ask('PUT', imagePath(image.id, to), { headers, body })
  await discard(answer)
  return digests
}
