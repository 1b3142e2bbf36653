/** `nbd list`: the exports of a server. */

import { failureFrom } from '../../failure.ts'
import { readTls, tlsOptions } from '../../nbd-tls.ts'
import { toPrettyJson } from '../../output/json.ts'
import { sizeText } from '../../output/size.ts'
import { defineVerb } from '../../verb.ts'
import { oneImage, outputFormat, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'nbd list',
  summary: 'List the exports of an NBD server',
  operands: 'URI',
  syntax: '',
  about: 'Shows name, size and description of each export. The default export has the empty name.',
  examples: [
    ['moraine nbd list nbd://storage', 'over TCP'],
    ["moraine nbd list --output=json 'nbd+unix://?socket=disk.sock'", 'for programs'],
  ],
  options: { output: outputFormat, ...tlsOptions },
  async run(values, operands, context) {
    const json = wantsJson(values.output)
    const uri = oneImage(operands)
    const { listNbd } = await import('@moraine/nbd')
    try {
      const exports = await listNbd(uri, { tls: await readTls(values), signal: context.signal })
      if (json) {
        const list = exports.map(({ name, description, size, readOnly }) => ({
          name,
          description,
          size,
          'read-only': readOnly,
        }))
        context.out.write(`${toPrettyJson(list)}\n`)
        return 0
      }
      for (const { name, description, size, readOnly } of exports) {
        const facts = [
          size === undefined ? undefined : `${sizeText(size)} (${size} bytes)`,
          readOnly === true ? 'read-only' : undefined,
          description,
        ]
        context.out.write(`'${name}': ${facts.filter((fact) => fact !== undefined).join(', ')}\n`)
      }
      return 0
    } catch (error) {
      throw failureFrom(error, context.persona, `Could not list '${uri}': `)
    }
  },
})
