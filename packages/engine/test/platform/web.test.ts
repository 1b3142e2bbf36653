/** What stands in for the host in a browser. */

import { expect, it } from 'vitest'
import * as web from '../../src/platform/web/index.ts'
import { refused } from '../source/conformance.ts'

it('says what a browser cannot do', async () => {
  expect((await refused(web.openFile('/x'), 'unsupported')).path).toBe('/x')
  await refused(web.newFile('/x'), 'unsupported')
  expect(web.nativeAvailable()).toBe(false)
  const gate = web.fileGate()
  expect(gate.resolve({ from: 'a/top.qcow2', name: 'base.raw' })).toBe('a/base.raw')
  expect(gate.resolve({ from: 'a/top.qcow2', name: 'nbd:h' })).toBe('nbd:h')
  await refused(gate.open({ from: 'a', name: 'b', role: 'backing', mode: 'read' }), 'unsupported')
})
