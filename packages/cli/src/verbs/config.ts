/** `config`: the settings of the service that are in force, and where each comes from. */
import { type SettingInForce, settings, settingsInForce, settingsSchema, variableOf } from '@moraine/server/config'
import { Failure, usageFailure } from '../failure.ts'
import { givenSettings, settingOptions } from '../service-settings.ts'
import { defineVerb } from '../verb.ts'

const modes = ['human', 'json', 'schema'] as const

export const verb = defineVerb({
  name: 'config',
  summary: 'Show the settings of the image service, and where they come from',
  operands: '',
  syntax: '',
  about:
    'Prints every setting of moraine serve with its value, where that comes from (command line, environment, file, default) and what it means, ' +
    'as a file that --config takes. Secrets are not shown. Whatever cannot be used is an error.',
  examples: [
    ['moraine config', 'what would be in force now'],
    ['moraine config --config moraine.yaml --output=json', 'the same with a file, for programs'],
    ['moraine config --output=schema', 'the JSON schema of such files'],
  ],
  options: {
    ...settingOptions,
    output: {
      long: 'output',
      argument: 'MODE',
      values: () => modes,
      help: `How to show them: ${modes.join(', ')} (the JSON schema of a file of settings).`,
      parse(text: string): (typeof modes)[number] {
        const mode = modes.find((known) => known === text)
        if (mode === undefined) throw new Failure(`--output must be used with one of ${modes.join(', ')}`)
        return mode
      },
    },
  },
  async run(values, operands, context) {
    const [surplus] = operands
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const mode = (values.output ?? 'human') as (typeof modes)[number]
    if (mode === 'schema') {
      context.out.write(`${JSON.stringify(settingsSchema(), null, 2)}\n`)
      return 0
    }
    const known = settingsInForce(givenSettings(values), process.env)
    context.out.write(mode === 'json' ? asJson(known) : asFile(known))
    return 0
  },
})

function asJson(known: readonly SettingInForce[]): string {
  const shown = known.map(({ name, value, from }) => [name, { value: shownValue(name, value), from }])
  return `${JSON.stringify(Object.fromEntries(shown), null, 2)}\n`
}

/** What is not set stands in comments, so that the whole can be a file of settings. */
function asFile(known: readonly SettingInForce[]): string {
  const parts = known
    .filter(({ name }) => name !== 'config')
    .map(({ name, value, from }) => {
      const { help, kind } = settings[name]
      const line = `${name}: ${JSON.stringify(shownValue(name, value))}`
      const isComment = from === 'default' || kind === 'secret'
      return `# ${help}\n# ${variableOf(name)}; ${origins[from]}\n${isComment ? '# ' : ''}${line}\n`
    })
  return parts.join('\n')
}

const origins: Readonly<Record<SettingInForce['from'], string>> = {
  caller: 'from the command line',
  environment: 'from the environment',
  file: 'from the file',
  default: 'the default',
}

function shownValue(name: keyof typeof settings, value: SettingInForce['value']): SettingInForce['value'] {
  return settings[name].kind === 'secret' && value !== '' ? '(not shown)' : value
}
