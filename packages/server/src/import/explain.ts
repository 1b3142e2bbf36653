/** What the owner of an image is told when work on it failed. What the host says about itself stays in the log. */
import { isMoraineError } from '@moraine/engine'
import { CatalogError } from '../catalog/catalog.ts'
import { RefusedContent } from '../inspect/judge.ts'
import { OverQuota } from '../quota/reservation.ts'
import { SignatureError } from '../signature/signature.ts'
import { StoreError } from '../store/store.ts'
import { TaskCancelled, TaskHopeless, TaskStopped } from '../task/runner.ts'
import { DownloadError } from '../web/download.ts'
import { WebRefused } from '../web/gate.ts'
import { ImportLost } from './lock.ts'

/** An import that cannot be done; the text is for the owner of the image. */
export class ImportFailed extends Error {}

const told = [
  ImportFailed,
  ImportLost,
  RefusedContent,
  SignatureError,
  DownloadError,
  WebRefused,
  OverQuota,
  TaskStopped,
  TaskCancelled,
  TaskHopeless,
]

export function explainFailure(error: unknown): string {
  if (told.some((kind) => error instanceof kind)) return (error as Error).message
  if (error instanceof StoreError) {
    const { kind, message } = error
    return kind === 'full' ? `the store is full: ${message}` : `the store takes no data: ${message}`
  }
  if (error instanceof CatalogError && error.kind === 'lost') return error.message
  if (error instanceof Error && error.name === 'TimeoutError') return 'it took longer than the service allows'
  if (isMoraineError(error) && error.kind !== 'io') return `the image data cannot be read: ${error.reason}`
  return 'the service failed; its log says more'
}
