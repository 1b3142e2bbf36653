/** A look at catalogues at an operator's word, while the service runs or not: as tasks in its catalog, so that two never do the same work at once. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { MoraineError } from '@moraine/engine'
import type { Task } from '../catalog/work.ts'
import type { Config } from '../config.ts'
import { closeService, openService } from '../open-service.ts'
import { openAudit } from '../operate/audit.ts'
import type { Service } from '../service.ts'
import { syncTask } from './schedule.ts'
import { readSources, type Source } from './sources.ts'
import type { SyncResult } from './sync.ts'

export interface SyncOptions {
  /** Names of catalogues; none: all. */
  readonly names: readonly string[]
  readonly dryRun: boolean
  readonly signal: AbortSignal
  /** Told how far it is. */
  readonly onMessage?: ((catalogue: string, message: string) => void) | undefined
}

const pollMilliseconds = 200
const quiet = { info() {}, warn() {}, error() {} }

/** Looks at catalogues one after the other.
 *  @throws MoraineError `missing` when there is none of a name, or none at all; `cancelled` */
export async function* syncOnce(
  config: Config,
  { names, dryRun, signal, onMessage }: SyncOptions,
): AsyncGenerator<SyncResult> {
  const sources = readSources(config)
  const chosen = names.length === 0 ? sources : names.map((name) => namedSource(sources, name))
  if (chosen.length === 0) {
    throw new MoraineError('missing', 'there are no catalogues: the setting catalogueFile names the file that has them')
  }
  // It looks when it is told to; what is due stays due for the service.
  const service = await openService({ ...config, catalogueFile: '' }, quiet, openAudit(config))
  try {
    for (const source of chosen) yield await look(service, source, dryRun, signal, onMessage)
  } finally {
    await closeService(service)
  }
}

function namedSource(sources: readonly Source[], name: string): Source {
  const found = sources.find((source) => source.name === name)
  if (found !== undefined) return found
  const known = sources.map((source) => source.name).join(', ')
  throw new MoraineError('missing', `there is no catalogue ${name}`, {
    hint: known === '' ? undefined : `There are ${known}.`,
  })
}

async function look(
  { catalog, tasks }: Service,
  source: Source,
  dryRun: boolean,
  signal: AbortSignal,
  onMessage: SyncOptions['onMessage'],
): Promise<SyncResult> {
  const { id } = await catalog.work.tasks.create({ ...syncTask(source, dryRun), id: randomUUID() })
  tasks.kick()
  for (let said = ''; ; ) {
    const task = await catalog.work.tasks.get(id)
    if (task === undefined || task.status === 'success' || task.status === 'failure') {
      if (signal.aborted && task?.status !== 'success')
        throw new MoraineError('cancelled', 'the operation was cancelled', { cause: signal.reason })
      return resultOf(source, dryRun, task)
    }
    if (task.message !== said) onMessage?.(source.name, task.message)
    said = task.message
    // Whoever runs it puts back what it was at; that is soon.
    if (signal.aborted) await catalog.work.tasks.cancel(id, 'cancelled')
    await sleep(pollMilliseconds, undefined, signal.aborted ? {} : { signal }).catch(() => {})
  }
}

/** A catalogue that could not be read at all is a failure of its own. */
function resultOf({ name }: Source, dryRun: boolean, task: Task | undefined): SyncResult {
  if (task?.status === 'success' && task.result !== null) return task.result as unknown as SyncResult
  const reason = task?.message ?? 'its task is gone'
  const nothing = { imported: [], shown: [], hidden: [], deleted: [] }
  return { catalogue: name, dryRun, skipped: false, ...nothing, failed: [{ name: 'the catalogue', reason }] }
}
