/** The verbs, each loaded when it is asked for. */
import type { Persona } from '../persona.ts'
import type { Verb } from '../verb.ts'

/** In the order of QEMU's help; `inspect` and what follows are not QEMU's. */
const loaders: Record<string, { extension?: true; load(): Promise<{ verb: Verb }> }> = {
  amend: { load: () => import('./amend.ts') },
  bench: { load: () => import('./bench.ts') },
  bitmap: { load: () => import('./bitmap.ts') },
  check: { load: () => import('./check.ts') },
  commit: { load: () => import('./commit.ts') },
  compare: { load: () => import('./compare.ts') },
  convert: { load: () => import('./convert.ts') },
  create: { load: () => import('./create.ts') },
  dd: { load: () => import('./dd.ts') },
  info: { load: () => import('./info.ts') },
  map: { load: () => import('./map.ts') },
  measure: { load: () => import('./measure.ts') },
  rebase: { load: () => import('./rebase.ts') },
  snapshot: { load: () => import('./snapshot.ts') },
  resize: { load: () => import('./resize.ts') },
  inspect: { extension: true, load: () => import('./inspect.ts') },
  ova: { extension: true, load: () => import('./ova.ts') },
  iso: { extension: true, load: () => import('./iso.ts') },
  seed: { extension: true, load: () => import('./seed.ts') },
  ubuntu: { extension: true, load: () => import('./ubuntu.ts') },
  catalog: { extension: true, load: () => import('./catalog.ts') },
  ami: { extension: true, load: () => import('./ami.ts') },
  image: { extension: true, load: () => import('./image.ts') },
  nbd: { extension: true, load: () => import('./nbd.ts') },
  serve: { extension: true, load: () => import('./serve.ts') },
  completion: { extension: true, load: () => import('./completion.ts') },
  config: { extension: true, load: () => import('./config.ts') },
}

/** The verb of a name, as far as the persona has it. */
export async function findVerb(name: string, persona: Persona): Promise<Verb | undefined> {
  if (!Object.hasOwn(loaders, name)) return undefined
  const entry = loaders[name]
  if (entry === undefined || (entry.extension === true && !persona.extensions)) return undefined
  return (await entry.load()).verb
}

/** All verbs of a persona. */
export async function allVerbs(persona: Persona): Promise<Verb[]> {
  const verbs: Verb[] = []
  for (const name of Object.keys(loaders)) {
    const verb = await findVerb(name, persona)
    if (verb !== undefined) verbs.push(verb)
  }
  return verbs
}
