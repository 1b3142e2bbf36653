/** QEMU's cache modes. Node has no O_DIRECT or write-through files of its own: every mode but `unsafe` syncs what was written before the command ends. */
import { Failure } from './failure.ts'

/** What `-t` and `-T` take. */
export const cacheModes = ['none', 'off', 'writeback', 'writethrough', 'directsync', 'unsafe'] as const

/** A cache mode; `off` is an old name of `none`. */
export type CacheMode = (typeof cacheModes)[number]

/** @throws Failure `Invalid {what} option: …` */
export function readCacheMode(what: 'cache' | 'source cache', text: string): CacheMode {
  const mode = cacheModes.find((known) => known === text)
  if (mode === undefined) throw new Failure(`Invalid ${what} option: ${text}`)
  return mode
}
