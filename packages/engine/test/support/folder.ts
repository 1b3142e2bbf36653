/** Temporary files of tests: one folder for a test file, removed after its last test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** A temporary folder. */
export interface Folder {
  /** Absolute path of a file in the folder, which is made on first use. Nothing is created for the file itself. */
  file(name: string): string
  /** A name that was not given before, ending in `suffix`. */
  fresh(suffix?: string): string
}

/** Makes a temporary folder on first use and removes it after the tests of the surrounding suite or file. */
export function temporaryFolder(): Folder {
  let path: string | undefined
  let count = 0
  afterAll(() => {
    if (path !== undefined) rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  })
  const file = (name: string): string => {
    path ??= mkdtempSync(join(tmpdir(), 'moraine-test-'))
    return join(path, name)
  }
  return { file, fresh: (suffix = '') => file(`${++count}${suffix}`) }
}
