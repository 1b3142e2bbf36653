/** Pages whose commands are run, as the README's tour: fenced blocks marked `console`, in which a line that starts with `$ ` is a command (continued while lines
 *  end in a backslash, or up to the end of a here-document) and what follows is what it prints. */

/** A command and what the page says that it prints. */
export interface Step {
  command: string
  output: string
}

const blocks = /^```console\n([\s\S]*?)^```$/gm

/** The steps of all blocks, in order. */
export function readTour(readme: string): Step[] {
  return [...readme.matchAll(blocks)].flatMap(([, body = '']) => readBlock(body))
}

function readBlock(body: string): Step[] {
  const steps: Step[] = []
  let open = false
  let ending: string | undefined
  for (const line of body.trimEnd().split('\n')) {
    const step = steps.at(-1)
    if (step !== undefined && ending !== undefined) {
      step.command += `\n${line}`
      if (line === ending) ending = undefined
      continue
    }
    if (line.startsWith('$ ')) steps.push({ command: line.slice(2), output: '' })
    else if (step === undefined) throw new Error(`a console block begins without a command: ${line}`)
    else if (open) step.command += `\n${line}`
    else step.output += `${line}\n`
    open = (line.startsWith('$ ') || open) && line.endsWith('\\')
    ending = line.startsWith('$ ') ? /<<'?(\w+)'?$/.exec(line)?.[1] : undefined
  }
  return steps
}

/** The README with each command's output replaced; `outputs` are in the order of `readTour`. */
export function writeTour(readme: string, outputs: readonly string[]): string {
  let next = 0
  return readme.replace(blocks, (_, body: string) => {
    const lines = readBlock(body).map(({ command }) => `$ ${command}\n${outputs[next++] ?? ''}`)
    return `\`\`\`console\n${lines.join('')}\`\`\``
  })
}

/** What differs from run to run, made the same: identifiers, times, keys, sizes that the host's file system decides. */
export function plain(text: string): string {
  return text
    .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(\.[0-9a-f]{8})?\b/g, '<uuid>')
    .replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, '<time>')
    .replace(/\b\d{4}-\d\d-\d\dT\d{6}\.\d{3}Z/g, '<time>')
    .replace(/^(disk size: ).*$/gm, '$1<size>')
    .replace(/\b[0-9a-f]{32}\b/g, '<id>')
    .replace(/\b([0-9A-F]{16}|[0-9A-F]{40})\b/g, '<key>')
    .replace(/ +$/gm, '')
}

/** One text for each step whose output is not what the page says. */
export function differences(steps: readonly Step[], outputs: readonly string[]): string[] {
  return steps.flatMap(({ command, output }, at) => {
    const printed = outputs[at] ?? ''
    if (plain(printed) === plain(output)) return []
    return [`$ ${command}\nthe page says:\n${output}it printed:\n${printed}`]
  })
}
