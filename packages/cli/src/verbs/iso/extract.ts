/** `iso extract`: files out of an ISO 9660 image. */
import { Failure, usageFailure } from '../../failure.ts'
import { hostFailure } from '../../host-failure.ts'
import { Extraction, type LinkRule, linkRules } from '../../iso/extract.ts'
import { namesOption, withIso } from '../../iso/open.ts'
import { Selection } from '../../iso/select.ts'
import { type Context, defineVerb } from '../../verb.ts'
import { format, quiet, trust } from '../common.ts'

export const verb = defineVerb({
  name: 'iso extract',
  summary: 'Extract files from an ISO 9660 image',
  operands: 'FILE [PATH]...',
  syntax: '',
  about:
    'Extracts everything, or what the paths name (as in iso list). Nothing is written outside the target folder, whatever the names in the image are: files are made anew and never through a symbolic link, ' +
    'and links that lead outside are left out. What cannot be extracted is said, the rest is extracted, and the exit code is 1. Modes and times are those of the image; owners are not.',
  examples: [
    ['moraine iso extract debian.iso --to debian', 'everything'],
    ['moraine iso extract seed.iso user-data --stdout', 'one file, to standard output'],
    ['moraine iso extract debian.iso.gz "**/vmlinuz" --to boot', 'out of a packed image'],
  ],
  options: {
    ...trust,
    format: { ...format, long: 'format' },
    names: namesOption,
    to: {
      short: 'C',
      long: 'to',
      argument: 'FOLDER',
      help: 'Where to; made if need be. The current folder when not given.',
    },
    stdout: { long: 'stdout', help: 'Write one file to standard output.' },
    force: { long: 'force', help: 'Replace files that are there already.' },
    links: {
      long: 'links',
      argument: 'WHICH',
      values: () => linkRules,
      help: 'Symbolic links to make: inside (the default: those that stay in the target folder), all or none.',
      parse(text: string): LinkRule {
        const rule = linkRules.find((known) => known === text)
        if (rule === undefined) throw new Failure(`--links must be used with one of ${linkRules.join(', ')}`)
        return rule
      },
    },
    quiet,
  },
  async run(values, [name, ...paths], context) {
    if (name === undefined) throw usageFailure('Expecting the name of an image')
    const request = { name, format: values.format, names: values.names }
    if (values.stdout) {
      const [path] = paths
      if (path === undefined || paths.length > 1) throw usageFailure('--stdout takes exactly one path')
      await withIso(context, request, async (files) => {
        const source = await files.open(await files.find(path))
        const { writeStream } = await import('../../output/pipe.ts')
        const { sourceStream } = await import('../../iso/extract.ts')
        await writeStream(sourceStream(source), { signal: context.signal })
      })
      return 0
    }
    const selection = new Selection(paths)
    const extraction = await withIso(context, request, async (files) => {
      const extraction = new Extraction(context, values.to ?? '.', {
        force: values.force,
        links: values.links ?? 'inside',
      })
      try {
        for await (const entry of files.walk()) {
          if (selection.has(entry)) await extraction.take(files, entry)
        }
        await extraction.finish()
      } catch (error) {
        throw hostFailure(error)
      }
      return extraction
    })
    selection.complain(name)
    return report(context, extraction, values.quiet)
  },
})

function report(context: Context, { counts, problems }: Extraction, isQuiet: boolean): number {
  if (!isQuiet) {
    const { files, folders, links } = counts
    context.out.write(`extracted: ${files} files, ${folders} folders, ${links} symbolic links\n`)
  }
  if (problems === 0) return 0
  throw new Failure(`${problems} ${problems === 1 ? 'entry was' : 'entries were'} not extracted`)
}
