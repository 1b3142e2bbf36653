/** Modules of Node that take milliseconds to load (zlib 2, crypto 5, worker_threads 1, measured) and that most commands never need. */

let zlibModule: typeof import('node:zlib') | undefined

/** node:zlib, loaded at the first call. */
export function zlib(): typeof import('node:zlib') {
  zlibModule ??= process.getBuiltinModule('node:zlib')
  return zlibModule
}

/** node:worker_threads, loaded by the call. */
export function workerThreads(): typeof import('node:worker_threads') {
  return process.getBuiltinModule('node:worker_threads')
}
