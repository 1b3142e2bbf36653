/** Which entries of an image are meant by paths and patterns. */
import type { IsoEntry } from '@moraine/engine'
import picomatch from 'picomatch'
import { Failure } from '../failure.ts'

/** A choice by paths, patterns, or both; nothing chosen is everything. */
export class Selection {
  readonly #wanted: { text: string; fits: (path: string) => boolean; found: boolean }[]

  /** Paths may begin with a slash. In patterns `*` and `?` stop at slashes, and `**` does not. */
  constructor(texts: readonly string[]) {
    this.#wanted = texts.map((text) => {
      const path = text.replace(/^\.?\/+/, '').replace(/\/+$/, '')
      return { text, fits: path === '' ? () => true : fitting(path), found: false }
    })
  }

  /** Whether an entry, or a directory that it is in, was chosen. */
  has({ path }: IsoEntry): boolean {
    if (this.#wanted.length === 0) return true
    const inner = path.slice(1)
    let chosen = false
    for (const one of this.#wanted) {
      if (!one.fits(inner)) continue
      one.found = true
      chosen = true
    }
    return chosen
  }

  /** @throws Failure where something that was asked for was not there. */
  complain(image: string): void {
    const absent = this.#wanted.filter(({ found }) => !found).map(({ text }) => `'${text}' is not in '${image}'`)
    if (absent.length > 0) throw new Failure(absent)
  }
}

function fitting(wanted: string): (path: string) => boolean {
  const below = `${wanted}/`
  const literal = (path: string): boolean => path === wanted || path.startsWith(below)
  if (!picomatch.scan(wanted).isGlob) return literal
  // Brackets and stars may also stand in the names themselves.
  const matches = picomatch([wanted, `${wanted}/**`], { dot: true })
  return (path) => literal(path) || matches(path)
}
