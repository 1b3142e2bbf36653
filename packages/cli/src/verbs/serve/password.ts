/** `serve password`: another password for an account, for who cannot log in to change it. */
import { readFileSync } from 'node:fs'
import { Failure, usageFailure } from '../../failure.ts'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'

export const verb = defineVerb({
  name: 'serve password',
  summary: 'Give an account of the service another password, while the service runs or not',
  operands: 'USER [FILE]',
  syntax: '',
  about:
    'For accounts of the service itself (--auth local), when nobody can log in any more: everybody else changes passwords with openstack. The password is the first line of FILE (- is standard input); ' +
    'without FILE one is made up and printed. The account is enabled, and its tokens end. The account admin gets its roles back, too, and is made again when it is gone.',
  examples: [
    ['moraine serve password --data /srv/moraine admin', 'prints the new password of admin'],
    ['moraine serve password admin /run/secrets/admin', 'takes it from a file'],
  ],
  options: sharedSettingOptions,
  async run(values, operands, context) {
    const [user, file, surplus] = operands
    if (user === undefined) throw usageFailure('Expecting the name of an account')
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const password = file === undefined ? '' : firstLine(file)
    const { setPassword } = await import('@moraine/server/upkeep')
    const chosen = await setPassword(givenSettings(values), user, password)
    if (file === undefined) context.out.write(`${chosen}\n`)
    return 0
  },
})

function firstLine(file: string): string {
  const [line = ''] = readFileSync(file === '-' ? 0 : file, 'utf8').split(/\r?\n/)
  if (line === '') throw new Failure(`The first line of ${file} is empty`)
  return line
}
