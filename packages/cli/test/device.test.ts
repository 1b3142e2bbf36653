/** Block devices: what qemu-img says of them, and what it does to them. On a loop device; needs root and losetup, and says so where it cannot run. */
import { symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { attachLoop, detachLoop, reasonAgainstLoop } from '../../engine/test/support/loop.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'losetup'], 'a device, as qemu-img treats it', () => {
  const reason = reasonAgainstLoop()
  if (reason !== undefined) {
    it.skip(`[skipped: ${reason}]`, () => {})
    return
  }
  const fixtures = new Fixtures()
  let loop: string | undefined
  beforeAll(() => {
    writeFileSync(fixtures.path('device.img'), '')
    truncateSync(fixtures.path('device.img'), 8 << 20)
    writeFileSync(fixtures.path('a.raw'), 'x'.repeat(100_000))
    truncateSync(fixtures.path('a.raw'), 1 << 20)
    loop = attachLoop(fixtures.path('device.img'))
    symlinkSync(loop, fixtures.path('device'))
  })
  afterAll(() => {
    if (loop !== undefined) detachLoop(loop)
  })

  describe('-o help', () => {
    for (const line of [
      'create -f raw -o help device',
      'create -f qcow2 -o help device',
      'create -o help file:device',
      'create -o help /dev/null',
      'create -o help .',
      'convert -o help a.raw device',
      'convert -O qcow2 -o help a.raw device',
    ]) {
      fixtures.same(line)
    }
  })

  // Both programs write to the same device, one after the other.
  describe('create, convert and resize', () => {
    for (const line of [
      'create device 4M',
      'create device 16M',
      'create -f qcow2 device 64M',
      'create -f qcow2 -o preallocation=metadata device 4M',
      'create -f qcow2 -o preallocation=falloc device 4M',
      'create -f qcow2 -o preallocation=full device 4M',
      'create -o preallocation=off device 4M',
      'create -o preallocation=falloc device 4M',
      'create -o preallocation=metadata device 4M',
      'create -o preallocation=foo device 4M',
      'create -o nocow=off device 4M',
      'create -f qcow2 -o extent_size_hint=0 device 4M',
      'convert -O qcow2 a.raw device',
      'convert -O qcow2 -o preallocation=full a.raw device',
      'convert -o preallocation=full a.raw device',
      'convert -o preallocation=foo a.raw device',
      'convert -o preallocation=metadata a.raw nofile',
      'convert -o nocow=off a.raw device',
      'convert a.raw device',
      'convert -n a.raw device',
      'compare -f raw -F raw a.raw device',
      'resize -f raw device 16M',
      'resize -f raw device 4M',
      'resize -f raw --shrink device 4M',
      'resize -f raw device 8M',
      'resize -f raw --preallocation=full device 16M',
      'info device',
      'map --output=json device',
    ]) {
      fixtures.same(line)
    }
  })
})
