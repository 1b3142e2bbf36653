/** Who is at work on what: the processes of the service, the uploads under way, and tasks. Several processes may share one catalog, so all of it stands there. */
import type { JsonObject } from './json.ts'

/** A process of the service. It is alive while its lease runs. */
export interface WorkerFacts {
  readonly id: string
  /** The machine, as far as process ids mean the same there. */
  readonly host: string
  readonly pid: number
  /** When the process was started, in whatever way the machine says it: tells it from a later one with the same id. */
  readonly started: string
  /** Seconds since 1970. */
  readonly leaseUntil: number
}

/** Image data on its way in. While this stands in the catalog, the data belongs to the worker; without it, no data is taken as an image's. */
export interface Upload {
  readonly key: string
  readonly store: string
  readonly imageId: string
  readonly workerId: string
  /** `import`: by a task, which another worker may begin again. */
  readonly kind: 'upload' | 'stage' | 'import'
  /** The task that brings it in, when that can go on with what is there after its process is gone. */
  readonly taskId?: string | undefined
}

/** What is there of an upload that goes on in another process. */
export interface KeptUpload extends Upload {
  /** Bytes on stable storage. */
  readonly received: number
  /** What tells whether the rest is of the same data. */
  readonly version: JsonObject
}

export type TaskStatus = 'pending' | 'processing' | 'success' | 'failure'
export type TaskType = 'import' | 'api_image_import' | 'location_import' | 'catalogue_sync'

/** A piece of long work. Times are seconds since 1970. */
export interface Task {
  readonly id: string
  readonly type: TaskType
  readonly status: TaskStatus
  /** The project. */
  readonly owner: string | null
  readonly imageId: string | null
  readonly userId: string | null
  /** Of the request that asked for it. */
  readonly requestId: string | null
  readonly input: JsonObject
  readonly result: JsonObject | null
  readonly message: string
  /** Between 0 and 1; null when unknown. */
  readonly progress: number | null
  /** How often it was begun. */
  readonly attempts: number
  /** Who runs it, or, while it is pending, who alone may. */
  readonly workerId: string | null
  /** Why it shall end before it is done; null: it shall not. */
  readonly cancelled: string | null
  readonly createdAt: number
  readonly updatedAt: number
  /** When it is forgotten; null until it is over. */
  readonly expiresAt: number | null
}

export interface NewTask extends Pick<Task, 'id' | 'type' | 'owner' | 'imageId' | 'userId' | 'requestId' | 'input'> {
  /** The worker that alone may run it, as long as it lives: it has what stands in no catalog. */
  readonly workerId?: string | undefined
}

export const taskSortKeys = ['created_at', 'expires_at', 'id', 'status', 'type', 'updated_at'] as const
export type TaskSortKey = (typeof taskSortKeys)[number]

export interface TaskQuery {
  /** Only those of this project; undefined: all. */
  owner?: string | undefined
  status?: string | undefined
  type?: string | undefined
  sort: TaskSortKey
  descending: boolean
  limit: number
  /** The task after which the page begins. */
  marker?: string | undefined
}

export interface TaskEnd {
  readonly status: 'success' | 'failure'
  /** Why it failed. */
  readonly message: string
  readonly result?: JsonObject
}

export interface TaskPage {
  tasks: Task[]
  more: boolean
}

export interface Tasks {
  create(task: NewTask): Promise<Task>
  get(id: string): Promise<Task | undefined>
  /** @throws CatalogError `unknown-marker`. */
  list(query: TaskQuery): Promise<TaskPage>
  /** All of an image, the oldest first. */
  ofImage(imageId: string): Promise<Task[]>
  /** Gives a worker the oldest of the tasks that it alone may run, or else of those that nobody runs. */
  claim(workerId: string, types: readonly TaskType[]): Promise<Task | undefined>
  /** Lets one task at a time have something, such as a catalogue that is brought in: until the task is over, or what held it is.
   *  Resolves to false when another task has it. */
  hold(id: string, what: string): Promise<boolean>
  /** Says how far a running task is. Resolves to what has been said of it meanwhile; undefined when the worker does not run it any more. */
  report(
    id: string,
    workerId: string,
    progress: number | null,
    message: string,
  ): Promise<Pick<Task, 'cancelled'> | undefined>
  /** Asks for a task to end: by the worker that runs it, or the next one that takes it, which puts back what it worked on.
   *  Resolves to false when there is no such task, or it is over. */
  cancel(id: string, reason: string): Promise<boolean>
  /** Ends a task. Resolves to false when it is over already, or run by another worker than `workerId` (null: whoever runs it).
   *  @param expiresAt When it is forgotten. */
  finish(id: string, workerId: string | null, end: TaskEnd, expiresAt: number): Promise<boolean>
  /** Gives a running task back, for any worker to take. */
  release(id: string, workerId: string): Promise<void>
  /** Forgets those whose time has come. */
  forgetExpired(): Promise<number>
}

export interface Work {
  readonly tasks: Tasks
  /** Makes a worker known, or its lease longer. */
  greet(worker: WorkerFacts): Promise<void>
  workers(): Promise<WorkerFacts[]>
  /** Workers that are not known and yet have something: held for dead while they lived, and dead before they could say otherwise. */
  strays(): Promise<string[]>
  /** Takes from a worker all it has: its uploads are over, save for those that are kept for a task (images that waited for them are `queued` again), its tasks wait for another.
   *  Resolves to the uploads, whose data is to be removed. */
  bury(workerId: string): Promise<Upload[]>
  /** Writes an upload down. Before any data of it is in a store. */
  openUpload(upload: Upload): Promise<void>
  /** Resolves to false when there is no such upload (any more). */
  closeUpload(key: string): Promise<boolean>
  /** Notes how much of a task's upload is on stable storage, and of what it is. From then on it outlives its worker. */
  keepUpload(key: string, received: number, version: JsonObject): Promise<void>
  /** Lets go of what is kept: whichever worker takes the task next goes on with it, also while this one lives. */
  releaseKept(key: string): Promise<void>
  /** Gives a worker what workers that are gone have kept for a task, under a new key, so that none of them can finish it. Resolves to it as it was. */
  takeKept(taskId: string, workerId: string, key: string): Promise<KeptUpload | undefined>
  /** Closes what is kept for tasks that are over, or whose image is gone. Resolves to it: its data is to be removed. */
  closeForgotten(): Promise<Upload[]>
  /** Which of these names of data in a store belong to an image or to an upload. */
  knownData(store: string, keys: readonly string[]): Promise<Set<string>>
}
