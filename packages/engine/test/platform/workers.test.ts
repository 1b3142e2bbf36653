/** The pool of workers: what its tasks do, and what becomes of them when things go wrong. */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { isMoraineError, type PackedCodec } from '../../src/index.ts'
import { nodeCodecs, type UnpackInput, workers } from '../../src/node.ts'
import { startPool } from '../../src/platform/node/workers.ts'
import { everyKind, noise, program, text } from '../codec/samples.ts'
import { temporaryFolder } from '../support/folder.ts'
import { run } from '../support/process.ts'

const folder = temporaryFolder()
const unitBytes = 65_536

afterEach(() => workers().close())

/** A file, opened for as long as `use` takes. */
async function withFile<Result>(
  content: Uint8Array,
  use: (file: number, path: string) => Promise<Result>,
): Promise<Result> {
  const path = folder.fresh()
  writeFileSync(path, content)
  const file = openSync(path, 'r+')
  try {
    return await use(file, path)
  } finally {
    closeSync(file)
  }
}

async function failure(promise: Promise<unknown>) {
  try {
    await promise
  } catch (error) {
    if (isMoraineError(error)) return error
    throw error
  }
  throw new Error('it did not fail')
}

/** Units of every kind, packed back to back at an odd place, the zeros and the noise too. */
function packedFile(codec: PackedCodec): { file: Uint8Array; content: Uint8Array; places: [number, number][] } {
  const plain = everyKind(unitBytes).flatMap(([, bytes]) => [bytes, bytes])
  const places: [number, number][] = []
  const parts: Uint8Array[] = [noise(77)]
  let at = 77
  for (const bytes of plain) {
    const packed = nodeCodecs[codec]?.pack?.(bytes, unitBytes * 2)
    if (packed === undefined) throw new Error('not packed')
    // The reserved length goes on to the end of a sector, as in qcow2.
    places.push([at, Math.ceil((at + packed.length) / 512) * 512 - at])
    parts.push(packed)
    at += packed.length
  }
  return { file: Buffer.concat(parts), content: Buffer.concat(plain), places }
}

describe('unpack', () => {
  test.each(['deflate', 'zstd'] as const)('%s into a buffer, in any order, whole and in part', async (codec) => {
    const { file, content, places } = packedFile(codec)
    await withFile(file, async (source) => {
      const order = places.map((_, i) => (i * 5) % places.length)
      const pieces = order.flatMap((unit) => [
        { unit, skip: 0, length: 1000 },
        { unit, skip: 1000, length: unitBytes - 1000 },
        { unit, skip: 0, length: unitBytes },
      ])
      const expected = Buffer.concat(
        pieces.map(({ unit, skip, length }) =>
          content.subarray(unit * unitBytes + skip, unit * unitBytes + skip + length),
        ),
      )
      let target = 0
      const units = Float64Array.from(
        pieces.flatMap(({ unit, skip, length }) => {
          const [offset, reserved] = places[unit] as [number, number]
          const numbers = [offset, reserved, target, skip, length]
          target += length
          return numbers
        }),
      )
      const buffer = new ArrayBuffer(expected.length)
      const to = { buffer }
      const output = await workers().run('unpack', { codec, source, units, unitBytes, to }, [buffer])
      expect(buffer.byteLength).toBe(0)
      expect(Buffer.from(output.buffer as ArrayBuffer).equals(expected)).toBe(true)
    })
  })

  test.each([1, 12, 8192, 8193, 300_000])('zlib with gaps of %d bytes between the units', async (gap) => {
    const { file, content, places } = packedFile('zlib')
    const parts: Uint8Array[] = []
    const units = new Float64Array(places.length * 5)
    let at = 0
    for (const [i, [offset]] of places.entries()) {
      const end = places[i + 1]?.[0] ?? file.length
      parts.push(file.subarray(offset, end), noise(gap))
      units.set([at, end - offset, i * unitBytes, 0, unitBytes], i * 5)
      at += end - offset + gap
    }
    await withFile(Buffer.concat(parts), async (source) => {
      const buffer = new ArrayBuffer(content.length)
      const to = { buffer }
      const output = await workers().run('unpack', { codec: 'zlib', source, units, unitBytes, to }, [buffer])
      expect(Buffer.from(output.buffer as ArrayBuffer).equals(content)).toBe(true)
    })
  })

  test.each([0, 4096, 65_536])('into a file, leaving out zero blocks of %d bytes', async (sparseBytes) => {
    const { file, content, places } = packedFile('deflate')
    await withFile(file, async (source) => {
      const base = 12_288 + 512
      const before = new Uint8Array(base + content.length + 100).fill(0xee)
      await withFile(before, async (descriptor, path) => {
        const units = Float64Array.from(
          places.flatMap(([offset, reserved], unit) => [offset, reserved, base + unit * unitBytes, 0, unitBytes]),
        )
        const to = { descriptor, sparseBytes }
        const { written, zeros } = await workers().run('unpack', { codec: 'deflate', source, units, unitBytes, to })
        const expected = Buffer.from(before)
        content.forEach((byte, i) => {
          expected[base + i] = byte
        })
        let reported = 0
        for (let i = 0; i < zeros.length; i += 2) {
          const [start, length] = [zeros[i] as number, zeros[i + 1] as number]
          expect(expected.subarray(start, start + length).every((byte) => byte === 0)).toBe(true)
          expected.fill(0xee, start, start + length)
          reported += length
        }
        for (let i = 0; i < written.length; i += 2) reported += written[i + 1] as number
        expect(readFileSync(path).equals(expected)).toBe(true)
        expect(reported).toBe(content.length)
        // Two units are zeros; the runs of others may add a block.
        if (sparseBytes === 0) expect(zeros.length).toBe(0)
        else expect(zeros[1]).toBeGreaterThanOrEqual(sparseBytes === 4096 ? 2 * unitBytes - 4096 : unitBytes)
        // Neighbours are written together.
        expect(written.length).toBeLessThan(2 * places.length)
      })
    })
  })

  test('tells where a damaged unit lies, and goes on with the next task', async () => {
    const { file, places } = packedFile('zstd')
    const [offset, reserved] = places[4] as [number, number]
    file.fill(0xff, offset, offset + 200)
    await withFile(file, async (source) => {
      const task = (unit: [number, number]): UnpackInput => ({
        codec: 'zstd',
        source,
        sourceName: 'the file',
        units: Float64Array.from([...unit, 0, 0, unitBytes]),
        unitBytes,
        to: { buffer: new ArrayBuffer(unitBytes) },
      })
      const error = await failure(workers().run('unpack', task([offset, reserved])))
      expect(error).toMatchObject({ kind: 'corrupt', path: 'the file', offset })
      const output = await workers().run('unpack', task(places[5] as [number, number]))
      expect(output.buffer?.byteLength).toBe(unitBytes)
    })
  })

  test('a packed unit that is cut by the end of the file is corrupt, a closed descriptor is an error of the host', async () => {
    const { file, places } = packedFile('deflate')
    const [offset, reserved] = places[6] as [number, number]
    const task = (source: number): UnpackInput => ({
      codec: 'deflate',
      source,
      sourceName: 'the file',
      units: Float64Array.from([offset, reserved, 0, 0, unitBytes]),
      unitBytes,
      to: { buffer: new ArrayBuffer(unitBytes) },
    })
    await withFile(file.subarray(0, offset + 100), async (source) => {
      expect(await failure(workers().run('unpack', task(source)))).toMatchObject({ kind: 'corrupt', offset })
    })
    const error = await failure(workers().run('unpack', task(999_999)))
    expect(error).toMatchObject({ kind: 'io', code: 'EBADF', path: 'the file', reason: 'Bad file descriptor' })
  })

  test('a target that is full fails with its code, name and offset', async () => {
    const { file, places } = packedFile('deflate')
    const full = openSync('/dev/full', 'w')
    try {
      await withFile(file, async (source) => {
        const units = Float64Array.from([...(places[4] as [number, number]), 0, 0, unitBytes])
        const to = { descriptor: full, name: 'full', sparseBytes: 4096 }
        const error = await failure(workers().run('unpack', { codec: 'deflate', source, units, unitBytes, to }))
        expect(error).toMatchObject({ kind: 'io', code: 'ENOSPC', path: 'full', offset: 0 })
      })
    } finally {
      closeSync(full)
    }
  })
})

describe('pack', () => {
  const kinds = [
    text(unitBytes),
    new Uint8Array(unitBytes),
    noise(unitBytes),
    program(unitBytes),
    new Uint8Array(unitBytes),
  ]

  function check(codec: PackedCodec, bytes: ArrayBuffer, lengths: Int32Array, keepZeros: boolean): void {
    let at = 0
    kinds.forEach((content, unit) => {
      const length = lengths[unit] as number
      if (unit === 2) {
        expect(length).toBe(-1)
        expect(Buffer.compare(new Uint8Array(bytes, at, unitBytes), content)).toBe(0)
        at += unitBytes
        return
      }
      if ((unit === 1 || unit === 4) && !keepZeros) {
        expect(length).toBe(0)
        return
      }
      expect(length).toBeGreaterThan(0)
      const output = new Uint8Array(unitBytes)
      nodeCodecs[codec]?.unpack(new Uint8Array(bytes, at, length), output)
      expect(Buffer.compare(output, content)).toBe(0)
      at += length
    })
  }

  test.each([
    ['deflate', false],
    ['zstd', true],
  ] as const)('%s, content in the buffer, zeros kept: %s', async (codec, keepZeros) => {
    const buffer = new ArrayBuffer(kinds.length * unitBytes)
    new Uint8Array(buffer).set(Buffer.concat(kinds))
    const input = { codec, unitBytes, buffer, units: kinds.length, keepZeros }
    const output = await workers().run('pack', input, [buffer])
    expect(buffer.byteLength).toBe(0)
    check(codec, output.buffer, output.lengths, keepZeros)
  })

  test('content from a file, with holes and past its end', async () => {
    const [first, , third, fourth] = kinds as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array]
    const file = Buffer.concat([noise(123), third, fourth, first])
    await withFile(file, async (descriptor) => {
      const buffer = new ArrayBuffer(kinds.length * unitBytes)
      new Uint8Array(buffer).fill(0x77)
      const segments = Float64Array.from([
        ...[123 + 2 * unitBytes, 1000],
        ...[123 + 2 * unitBytes + 1000, unitBytes - 1000],
        ...[-1, unitBytes],
        ...[123, 2 * unitBytes],
        ...[file.length, 5000],
      ])
      const input = {
        codec: 'deflate' as const,
        unitBytes,
        buffer,
        units: kinds.length,
        source: { descriptor, segments },
      }
      const output = await workers().run('pack', input, [buffer])
      check('deflate', output.buffer, output.lengths, false)
    })
  })

  test('a buffer that is too small or gone', async () => {
    const input = { unitBytes, units: 1, buffer: new ArrayBuffer(unitBytes) }
    expect(await failure(workers().run('pack', { ...input, codec: 'zstd', units: 2 }))).toMatchObject({
      kind: 'invalid',
    })
    await workers().run('pack', { ...input, codec: 'zstd' }, [input.buffer])
    const again = workers().run('pack', { ...input, codec: 'zstd' }, [input.buffer])
    expect(await failure(again)).toMatchObject({ kind: 'invalid' })
  })
})

describe('the pool', () => {
  const packTask = () => ({ codec: 'zstd' as const, unitBytes, units: 16, buffer: new ArrayBuffer(16 * unitBytes) })

  test('has one instance until it is closed, and at most 8 workers', async () => {
    const pool = workers()
    expect(workers()).toBe(pool)
    expect(pool.size).toBeGreaterThanOrEqual(1)
    expect(pool.size).toBeLessThanOrEqual(8)
    await pool.close()
    expect(workers()).not.toBe(pool)
    expect(await failure(pool.run('pack', packTask()))).toMatchObject({ kind: 'cancelled' })
  })

  test('does many tasks, each with its own result', async () => {
    const units = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const buffer = new ArrayBuffer(4096)
        const content = new Uint8Array(4096).fill(i + 1)
        new Uint8Array(buffer).set(content)
        const input = { codec: 'deflate' as const, unitBytes: 4096, units: 1, buffer }
        const output = await workers().run('pack', input, [buffer])
        const back = new Uint8Array(4096)
        nodeCodecs.deflate?.unpack(new Uint8Array(output.buffer, 0, output.lengths[0]), back)
        return back.every((byte) => byte === i + 1)
      }),
    )
    expect(units.every(Boolean)).toBe(true)
  })

  test('closing waits for what has begun and cancels the rest', async () => {
    const pool = workers()
    const results = Array.from({ length: pool.size * 2 + 20 }, () =>
      pool.run('pack', packTask()).then(
        () => 'done',
        (error: unknown) => (isMoraineError(error) ? error.kind : 'other'),
      ),
    )
    await pool.close()
    const all = await Promise.all(results)
    expect(all.filter((result) => result === 'done')).toHaveLength(pool.size * 2)
    expect(all.filter((result) => result === 'cancelled')).toHaveLength(20)
  })

  test('a signal cancels what waits at once, and what has begun at its end', async () => {
    const pool = workers()
    const stop = new AbortController()
    const settled: number[] = []
    const count = pool.size * 2 + 5
    const results = Array.from({ length: count }, async (_, i) => {
      const error = await failure(pool.run('pack', packTask(), [], stop.signal)).finally(() => settled.push(i))
      return error.kind
    })
    stop.abort()
    expect(await Promise.all(results)).toEqual(new Array<string>(count).fill('cancelled'))
    expect(settled.slice(0, 5).every((i) => i >= pool.size * 2)).toBe(true)
    expect(await failure(pool.run('pack', packTask(), [], stop.signal))).toMatchObject({ kind: 'cancelled' })
    expect((await pool.run('pack', packTask())).lengths).toHaveLength(16)
  })

  test('tasks of a worker that dies fail with kind io, and another takes its place', async () => {
    const entry = folder.fresh('.mjs')
    const body = `
      import { parentPort } from 'node:worker_threads'
      parentPort.on('message', ({ id, input }) => {
        if (input.codec === 'zlib') process.exit(3)
        if (input.codec === 'deflate') throw new Error('it fell over')
        parentPort.postMessage({ id, output: input.units })
      })`
    writeFileSync(entry, body)
    const pool = startPool(1, pathToFileURL(entry))
    const answer = (codec: PackedCodec, units: number) => pool.run('pack', { ...packTask(), codec, units })
    const results = await Promise.allSettled([
      ...[answer('zstd', 1), answer('zlib', 2), answer('zstd', 3), answer('deflate', 4), answer('zstd', 5)],
      ...[answer('zstd', 6), answer('zstd', 7)],
    ])
    const told = results.map((result) => (result.status === 'fulfilled' ? result.value : result.reason.message))
    // The task that the dead worker had at hand as its next is lost with it.
    expect(told).toEqual([
      1,
      'a worker thread died: it ended with code 3',
      'a worker thread died: it ended with code 3',
      'a worker thread died: it fell over',
      'a worker thread died: it fell over',
      6,
      7,
    ])
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ kind: 'io' })
    expect(await answer('zstd', 8)).toBe(8)
    await pool.close()
  })

  test('a worker that cannot start fails its tasks, each of them', async () => {
    const pool = startPool(2, pathToFileURL(folder.file('is-not-there.mjs')))
    const results = await Promise.all(Array.from({ length: 9 }, () => failure(pool.run('pack', packTask()))))
    for (const { kind } of results) expect(kind).toBe('io')
    await pool.close()
  })

  test('idle workers do not keep the process alive, busy ones do', async () => {
    const program = `
      import { workers } from ${JSON.stringify(new URL('../../src/node.ts', import.meta.url).href)}
      const task = () => ({ codec: 'zstd', unitBytes: 65536, units: 64, buffer: new ArrayBuffer(64 * 65536) })
      await workers().run('pack', task())
      workers().run('pack', task()).then(() => console.log('done'))`
    const result = await run(process.execPath, ['--conditions=source', '--input-type=module', '-e', program], {
      timeout: 20_000,
    })
    expect(result).toMatchObject({ code: 0, stdout: 'done\n', stderr: '', timedOut: false })
  })
})
