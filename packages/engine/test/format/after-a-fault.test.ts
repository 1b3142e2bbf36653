/** What goes on after one call of the host has failed: the request is made again on the same open disk, and the image is sound. */
import { type ByteStore, faultySource, isMoraineError, isWritable, type MemoryStore, openDisk } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import type { openForWritingIn } from '../support/block-subject.ts'
import { formatOf } from '../support/disk.ts'
import { memoryHost } from '../support/journal-host.ts'
import type { HostImage, MemoryHost } from '../support/memory-host.ts'
import { checkStore, createInMemory, openStoreForWriting } from '../support/memory-image.ts'

/** Lets each write, barrier and lengthening in turn fail once under `work`, which is then done again. Returns how many calls there were. */
async function failOnceEach(
  make: () => Promise<MemoryStore>,
  open: (store: ByteStore) => ReturnType<typeof openForWritingIn>,
  work: (disk: Awaited<ReturnType<typeof open>>) => Promise<void>,
  look: (store: MemoryStore, at: number) => Promise<void>,
): Promise<number> {
  for (let at = 0; ; at++) {
    const store = await make()
    const { source, report } = faultySource(store, { fault: 'EIO', calls: ['write', 'flush', 'resize'], at })
    const disk = await open(source)
    try {
      await work(disk)
    } catch (error) {
      if (!isMoraineError(error, 'io')) throw error
      await work(disk)
    }
    await disk.close().catch((error) => {
      if (!isMoraineError(error, 'io')) throw error
    })
    await look(store, at)
    if (report.faults === 0) return at
  }
}

describe('an image whose host failed once', () => {
  it('qcow2: a refcount block or table that could not be written is made again', async () => {
    const bytes = new Uint8Array(150_000).fill(7)
    // Blocks of 64 counts, tables of 64 blocks.
    const start = await createInMemory(4 << 20, 'cluster_size=512,refcount_bits=64')
    const calls = await failOnceEach(
      async () => start.clone(),
      openStoreForWriting,
      async (disk) => {
        for (let at = 0; at < 2_100_000; at += 700_000) {
          await disk.write(at, bytes)
          await disk.flush()
        }
      },
      async (store, at) => {
        const { result, lines } = await checkStore(store, 'none')
        expect([result.corruptions, result.checkErrors], `call ${at}: ${lines.slice(0, 3)}`).toEqual([0, 0])
      },
    )
    expect(calls).toBeGreaterThan(30)
  })

  it('vdi: a block that could not be copied from the parent leaves its place free', async () => {
    const host = await chain({ format: 'vdi' }, 3 << 20)
    const top = host.file('top.vdi')
    await failOnceEach(
      async () => {
        const copy = top.clone()
        host.files.set('top.vdi', copy)
        return copy
      },
      async (store) => {
        const disk = await openDisk(store, {
          formats: [formatOf('vdi')],
          format: 'vdi',
          mode: 'write',
          gate: host.gate,
        })
        if (!isWritable(disk)) throw new Error('it cannot be written')
        return disk
      },
      async (disk) => {
        await disk.write(1_500_000, new Uint8Array(5000).fill(7))
        await disk.flush()
      },
      async (_store, at) => {
        expect((await host.check('top.vdi', 'vdi')).lines, `call ${at}`).toEqual([])
      },
    )
  })
})

/** A parent full of bytes, and `top` over it. */
async function chain(top: Pick<HostImage, 'format' | 'options'>, size: number): Promise<MemoryHost<MemoryStore>> {
  const { format, options } = top
  const host = memoryHost()
  await host.create({ name: 'base', format, options, size })
  const disk = await host.openForWriting('base', format)
  await disk.write(0, new Uint8Array(size).fill(1))
  await disk.close()
  await host.create({ name: `top.${format}`, format, options, size, parent: { name: 'base', format } })
  return host
}

describe('closing beside a request', () => {
  /** A store whose writes come a few turns later. */
  function slow(store: ByteStore): ByteStore {
    return new Proxy(store, {
      get(target, name) {
        const value = Reflect.get(target, name, target)
        if (typeof value !== 'function') return value
        if (name !== 'write') return value.bind(target)
        return async (offset: number, bytes: Uint8Array) => {
          for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
          await target.write(offset, bytes)
        }
      },
    })
  }

  it.each([
    { format: 'vhdx', options: 'block_size=1M', what: 'write' },
    { format: 'vhdx', options: 'block_size=1M', what: 'zero' },
    { format: 'vmdk', options: '', what: 'write' },
    { format: 'vmdk', options: 'zeroed_grain=on', what: 'zero' },
    { format: 'qcow2', options: 'cluster_size=4k', what: 'zero' },
  ])('what was asked before is there: $what, $format $options', async ({ format, options, what }) => {
    const host = await chain({ format, options }, 4 << 20)
    const name = `top.${format}`
    const gate = { ...host.gate, open: async (request: { name: string }) => slow(host.file(request.name)) }
    const disk = await openDisk(slow(host.file(name)), { formats: [formatOf(format)], format, mode: 'write', gate })
    if (!isWritable(disk)) throw new Error('it cannot be written')
    // The first request has the image begun.
    await disk.write(0, new Uint8Array(512).fill(3))
    const bytes = new Uint8Array(100_000).fill(what === 'write' ? 7 : 0)
    const request = what === 'write' ? disk.write(1_000_700, bytes) : disk.zero(1_000_700, bytes.length, 'unmap')
    await disk.close()
    await request
    const after = await host.open(name, format)
    const found = new Uint8Array(bytes.length)
    await after.read(1_000_700, found)
    await after.close()
    expect(Buffer.compare(found, bytes)).toBe(0)
  })
})

it('a snapshot waits for writes that are on their way into clusters', async () => {
  const store = await createInMemory(1 << 20, '')
  const first = await openStoreForWriting(store)
  await first.write(0, new Uint8Array(65_536).fill(1))
  await first.close()
  let release = (): void => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  // The write of sevens is the host's last.
  const late = new Proxy(store, {
    get(target, name) {
      const value = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      if (name !== 'write') return value.bind(target)
      return async (offset: number, bytes: Uint8Array) => {
        if (bytes[0] === 7) await gate
        await target.write(offset, bytes)
      }
    },
  })
  const disk = await openStoreForWriting(late)
  // What the image says of itself is changed by the first write.
  await disk.write(65_536, new Uint8Array(512).fill(2))
  const sevens = disk.write(0, new Uint8Array(4096).fill(7))
  const taken = disk.snapshots?.create('s')
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
  await turns()
  const nines = disk.write(4096, new Uint8Array(4096).fill(9))
  await turns()
  release()
  await Promise.all([sevens, taken, nines])
  const found = new Uint8Array(8192)
  await disk.read(0, found)
  await disk.close()
  expect([found[0], found[4095], found[4096], found[8191]]).toEqual([7, 7, 9, 9])
})
