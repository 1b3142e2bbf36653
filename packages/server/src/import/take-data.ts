/** Image data on its way into a store: one pass with digests and a look at the head, then a look at the whole. Uploads and imports come this way. */
import { type Finding, inspectedHeadBytes, inspectSource } from '@moraine/engine'
import type { Image } from '../catalog/image.ts'
import type { Config } from '../config.ts'
import { judgeAppliance } from '../inspect/appliance.ts'
import { claimOf, inspectStart, judge, judgeBootKind, virtualSizeOf } from '../inspect/judge.ts'
import { wrongSignature } from '../signature/signatures.ts'
import type { Verification } from '../store/hash-protocol.ts'
import type { HashThreads } from '../store/hashing.ts'
import { takeIn } from '../store/intake.ts'
import type { StoreUpload } from '../store/store.ts'

/** What is known of data that was taken in. */
export interface Taken {
  size: number
  /** MD5 and SHA-512, hexadecimal. */
  checksum: string
  hashValue: string
  /** Null where nobody can tell. */
  virtualSize: number | null
}

export interface Taking {
  config: Config
  hashes: HashThreads
  image: Pick<Image, 'id' | 'diskFormat' | 'containerFormat'>
  upload: StoreUpload
  body: AsyncIterable<Uint8Array>
  /** The signature of the image. */
  verification: Verification | undefined
  /** Called with each piece's length before it is taken. May throw to refuse. */
  onBytes(length: number): void | Promise<void> | undefined
  /** Called with the size before the data is looked at as a whole. May throw to refuse. */
  onEnd?(size: number): void
  log: { warn(facts: object, text: string): void }
}

/** Takes in a whole body; `upload` is neither committed nor aborted. @throws RefusedContent, SignatureError, StoreError, and what the body and `onBytes` throw. */
export async function takeData(taking: Taking): Promise<Taken> {
  const { config, hashes, image, upload, body, verification, log } = taking
  const claim = claimOf(config, image)
  const { size, digests, isSigned } = await takeIn(body, upload, {
    hashes,
    verification,
    algorithms: ['md5', 'sha512'],
    headBytes: inspectedHeadBytes,
    onHead: async (head) => {
      const { inspection, whole } = inspectStart(head)
      judge(inspection, claim, whole)
    },
    onBytes: (length) => taking.onBytes(length),
  })
  taking.onEnd?.(size)
  if (!isSigned) throw wrongSignature(image.id)
  const source = await upload.read()
  let finding: Finding | undefined
  try {
    finding = judge(await inspectSource(source), claim, true)
    await judgeBootKind(source, claim)
  } finally {
    await source.close()
  }
  if (finding !== undefined && finding.format !== claim.diskFormat) {
    log.warn(
      { image: image.id, found: finding.format, declared: claim.diskFormat },
      'image data looks like another format',
    )
  }
  await judgeAppliance(() => upload.read(), claim)
  const virtualSize = await virtualSizeOf(() => upload.read(), claim, finding, size)
  return { size, checksum: digests.md5, hashValue: digests.sha512, virtualSize }
}
