/** Names of exports mean what they mean to QEMU, and are refused in its words. */
import { describe, expect, it } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { tryQemuImg } from '../../engine/test/support/qemu.ts'
import { isNbdName, type NbdAddress, nameOf, openNbd, parseNbdName } from '../src/index.ts'

const inet = (host: string, port: string, exportName = '', family?: 4 | 6): NbdAddress => ({
  server: { type: 'inet', host, port, ...(family === undefined ? {} : { family }) },
  exportName,
})
const unix = (path: string, exportName = ''): NbdAddress => ({ server: { type: 'unix', path }, exportName })

const understood: [name: string, address: NbdAddress][] = [
  ['nbd://example', inet('example', '10809')],
  ['nbd://example/', inet('example', '10809')],
  ['nbd://example:0/', inet('example', '10809')],
  ['nbd://user@example:5/a%20b', inet('example', '5', 'a b')],
  ['nbd://[::1]:5//x', inet('::1', '5', '/x')],
  ['nbd+tcp://example:5/x/y', inet('example', '5', 'x/y')],
  ['nbd+unix:///?socket=/a', unix('/a')],
  ['nbd+unix://?socket=a', unix('a')],
  ['nbd+unix:////x?socket=/a%3Fb', unix('/a?b', '/x')],
  ['nbd:unix:/a', unix('/a')],
  ['nbd:unix:/a:exportname=b:c', unix('/a', 'b:c')],
  ['nbd:example:5', inet('example', '5')],
  ['nbd:example:http', inet('example', 'http')],
  ['nbd:[::1]:5:exportname=x', inet('::1', '5', 'x', 6)],
  ['nbd:127.0.0.1:5,ipv4', inet('127.0.0.1', '5', '', 4)],
  ['nbds://example/x', { ...inet('example', '10809', 'x'), tls: {} }],
  [
    'nbds+unix:///?socket=/a&tls-certificates=/pki&tls-hostname=me',
    { ...unix('/a'), tls: { certificates: '/pki', hostname: 'me' } },
  ],
]

describe('names of exports', () => {
  it.each(understood)('%s', (name, address) => {
    expect(isNbdName(name)).toBe(true)
    expect(parseNbdName(name)).toEqual(address)
  })

  it.each(understood.filter(([, { server }]) => server.type === 'unix' || /^\d+$/.test(server.port)))(
    '%s has a URI of its own',
    (_name, address) => {
      const { family: _family, ...server } = { family: undefined, ...address.server }
      const plain = address.tls === undefined ? { server, exportName: address.exportName } : undefined
      if (plain !== undefined) expect(parseNbdName(nameOf(address))).toEqual(plain)
    },
  )

  it('are told from files', () => {
    for (const name of ['nbdx', './nbd:a', 'nbdkit.raw', '/nbd://x', 'NBD://x', 'nbd.raw'])
      expect(isNbdName(name), name).toBe(false)
    expect(isNbdName('nbds://x', false)).toBe(false)
  })
})

/** Names that do not lead to a server, for whatever reason. `differs`: why ours says something else. */
const refused: string[] = [
  'nbd://',
  'nbd:///x',
  'nbd://127.0.0.1:1/exp',
  'nbd+tcp://127.0.0.1:1/',
  'nbd+unix:///x',
  'nbd+unix:///?socket=/nope',
  'nbd+unix://h/?socket=/nope',
  'nbd+unix:///?sock=/nope',
  'nbd+unix:///?socket=/nope&tls=1',
  'nbd+unix:///?socket=',
  'nbd+unix://?socket=/nope',
  'nbd+unix:///?socket=rel',
  'nbd://127.0.0.1:1/?x=1',
  'nbd://127.0.0.1:99999/',
  'nbd://127.0.0.1:abc/',
  'nbd://127.0.0.1:1/%41?',
  'nbd://127.0.0.1:1/%zz',
  'nbd://127.0.0.1:1/#frag',
  'nbd://[::1]:1/x',
  'nbd:',
  'nbd:unix:',
  'nbd:unix:/nope',
  'nbd:unix:/nope:exportname=',
  'nbd:unix:/nope:exportname=abc',
  'nbd:unix:/etc/passwd',
  `nbd:unix:${'a'.repeat(200)}`,
  'nbd:localhost',
  'nbd:127.0.0.1:1',
  'nbd:127.0.0.1:1,ipv4',
  'nbd:127.0.0.1:99999',
  'nbd:127.0.0.1:abc',
  'nbd:127.0.0.1:1:foo',
  'nbd:localhost:',
  'nbd::1',
  'nbd:[::1',
  'nbd:[::1]:1',
]

describeWith(['qemu-img'], 'names that lead nowhere are refused in the words of qemu-img', () => {
  it.each(refused)('%s', async (name) => {
    const theirs = await tryQemuImg(['info', name])
    const error = await openNbd(name).then(
      () => undefined,
      (error: Error & { reason: string }) => error,
    )
    const [words] = theirs.stderr.replace(`qemu-img: Could not open '${name}': `, '').split('\n')
    expect(error?.reason).toBe(words)
  })
})
