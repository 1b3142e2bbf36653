/** `completion`: what makes a shell complete this command's arguments. The scripts hold next to nothing: they ask the command (`completion line`, `completion words`: `run.ts`), which looks into its own tables. */
import { usageFailure } from '../failure.ts'
import { defineVerb } from '../verb.ts'

export const verb = defineVerb({
  name: 'completion',
  summary: 'Print what makes bash, zsh or fish complete the arguments of this command',
  operands: 'bash|zsh|fish',
  syntax: '',
  about:
    'The script completes commands, options, formats, names and values of creation options, and files. It asks the moraine that is called, so it need not be made anew for ' +
    'another version. Packages install it as /usr/share/bash-completion/completions/moraine, /usr/share/zsh/vendor-completions/_moraine and ' +
    '/usr/share/fish/vendor_completions.d/moraine.fish.',
  examples: [
    ['source <(moraine completion bash)', 'in ~/.bashrc'],
    ['source <(moraine completion zsh)', 'in ~/.zshrc, after compinit'],
    ['moraine completion fish > ~/.config/fish/completions/moraine.fish', 'once'],
  ],
  options: {},
  async run(_values, operands, context) {
    const [shell, ...more] = operands
    const { scripts } = await import('../completion/scripts.ts')
    const script = Object.entries(scripts).find(([name]) => name === shell)?.[1]
    if (script === undefined || more.length > 0) throw usageFailure('Expecting one of bash, zsh and fish')
    context.out.write(script)
    return 0
  },
})
