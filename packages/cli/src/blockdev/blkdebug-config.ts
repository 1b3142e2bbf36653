/** The file of rules that `blkdebug` takes: sections as in `[inject-error]`, with `name = "value"` below. Facts: what qemu-img 7.2 makes of such files. */
import { MoraineError } from '@moraine/engine'

/** One rule, unread. */
interface Section {
  name: 'inject-error' | 'set-state'
  values: Record<string, string>
}

/** Parts a file into its rules. Nothing of a line that is none is told: it may be any file of this machine.
 *  @throws MoraineError `invalid` */
export function sectionsOf(config: string): Section[] {
  const sections: Section[] = []
  for (const line of config.split('\n')) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const head = /^\[\s*([^\]"\s]+)(?:\s+"[^"]*")?\s*\]/.exec(line)?.[1]
    if (head !== undefined) {
      if (head === 'inject-error' || head === 'set-state') sections.push({ name: head, values: {} })
      else if (/^[\w-]{1,63}$/.test(head)) throw invalid(`There is no option group '${head}'`)
      else throw unreadable()
      continue
    }
    const pair = /^\s*([\w-]{1,63})(?:\s+=\s*"([^"]*)"|(?=\s))/.exec(line)
    if (pair === null) throw unreadable()
    const last = sections.at(-1)
    if (last === undefined) throw invalid('no group defined')
    last.values[pair[1] ?? ''] = pair[2] ?? ''
  }
  return sections
}

function unreadable(): MoraineError {
  return invalid('Could not parse blkdebug config file')
}

function invalid(words: string): MoraineError {
  return new MoraineError('invalid', words, { field: 'config' })
}
