/** Malformed qcow2 images: each gives one clear error, in bounded time and memory, and never other guest bytes than QEMU reads.
 *  The rows are in `malformed/`; QEMU's answer is asked for each of them where qemu-img is installed. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { allFormats, MemoryStore, openDisk } from '@moraine/engine'
import { afterAll, describe, expect, it } from 'vitest'
import { type Answer, EngineChild } from '../support/engine.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Image } from '../support/qcow2-image.ts'
import { fileSha, qemuCheck, tryQemuImg } from '../support/qemu.ts'
import { isDrawn } from '../support/random.ts'
import { headerRows } from './malformed/header-rows.ts'
import { nameRows } from './malformed/name-rows.ts'
import { bent, plain, type Refusal, type Row } from './malformed/row.ts'
import { tableRows } from './malformed/table-rows.ts'

const folder = temporaryFolder()
const engine = new EngineChild()
afterAll(() => engine.end())

/** What the issue allows one operation on one malformed image. */
const most = { ms: 1000, bytes: 64 * 1024 * 1024 }

/** Every unknown incompatible feature bit, without and with a name for it. */
const featureRows: Row[] = Array.from({ length: 59 }, (_, i) => i + 5).flatMap((bit): Row[] => {
  const open: Refusal = ['unsupported', 'incompatible_features']
  const set = (image: Qcow2Image) => image.set('incompatible_features', 1n << BigInt(bit))
  return [
    { name: `incompatible feature bit ${bit} without a name`, make: bent(set), open },
    {
      name: `incompatible feature bit ${bit} with a name`,
      make: bent(set, { ...plain, featureNames: [[0, bit, `feature ${bit}`]] }),
      open,
    },
  ]
})

// They are all alike.
const featuresDrawn = featureRows.filter(({ name }) => isDrawn(name))

const rows: Row[] = [...headerRows, ...featuresDrawn, ...tableRows, ...nameRows]

/** Writes a row's files into a folder of their own; the image's path. */
function save(row: Row): string {
  const path = folder.file('malformed')
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path, { recursive: true })
  const files = Object.entries(row.make())
  for (const [name, content] of files) {
    if (content instanceof Uint8Array) writeFileSync(join(path, name), content)
    else content.save(join(path, name))
  }
  return join(path, files[0]?.[0] ?? '')
}

/** One operation, within its bounds. A process that was warmed by other rows may hold more than its share: a fresh one decides. */
async function bounded(
  op: 'info' | 'open' | 'read' | 'map' | 'check' | 'convert' | 'snapshots' | 'write',
  file: string,
): Promise<Answer> {
  const job = { op, file, target: `${file}.raw` }
  let answer = await engine.run(job)
  if (answer.ms > most.ms || answer.over > most.bytes) {
    await engine.stop()
    answer = await engine.run(job)
  }
  expect.soft(answer.ms, `${op}: milliseconds`).toBeLessThan(most.ms)
  expect.soft(answer.over, `${op}: bytes over the idle process`).toBeLessThan(most.bytes)
  if (answer.error !== undefined) expect(answer.error.moraine, `${op}: ${answer.error.stack}`).toBe(true)
  return answer
}

/** Compares an answer with what the row says. */
function judge(op: string, answer: Answer, refusal: Refusal | 'works' | undefined): void {
  const seen = answer.error === undefined ? 'works' : [answer.error.kind, answer.error.field]
  expect.soft(seen, `${op}: ${answer.error?.message ?? 'works'}`).toEqual(refusal ?? 'works')
  if (answer.error !== undefined) expect.soft(answer.error.path, `${op}: the error says which file`).toBeDefined()
}

describe('malformed qcow2 images', () => {
  it.each(rows.map((row) => [row.name, row] as const))('%s', async (_name, row) => {
    const file = save(row)
    judge('open', await bounded('open', file), row.open)
    judge('info', await bounded('info', file), row.info ?? row.open)
    judge('read', await bounded('read', file), row.open ?? row.read)
    judge('map', await bounded('map', file), row.open ?? row.map ?? row.read)
    judge('check', await bounded('check', file), row.check ?? row.open)
    judge('convert', await bounded('convert', file), row.open ?? row.read)
    judge('snapshots', await bounded('snapshots', file), row.open ?? row.snapshots)
    // Writing may find more; it must end well or with an error of the engine, never with a crash.
    const write = await bounded('write', file)
    if (row.write !== undefined || row.open !== undefined) judge('write', write, row.write ?? row.open)
  })

  it.each([
    ['a backing file', buildQcow2({ ...plain, backing: { name: '/etc/passwd', format: 'raw' } })],
    ['a data file', buildQcow2({ ...plain, clusters: {}, dataFile: { name: '/etc/passwd' } })],
  ])('%s is not opened unless the caller allows it', async (_name, image) => {
    const closed = (purpose: 'use' | 'info') =>
      openDisk(MemoryStore.from(image.bytes), { formats: allFormats, format: 'qcow2', purpose })
    await expect(closed('use')).rejects.toMatchObject({ kind: 'denied' })
    // info tells the name and opens nothing.
    expect(
      JSON.stringify((await closed('info')).info(), (_key, value) => (typeof value === 'bigint' ? `${value}` : value)),
    ).toContain('/etc/passwd')
  })

  it('names an unknown feature as its feature table does', async () => {
    const image = buildQcow2({ ...plain, featureNames: [[0, 9, 'tesseract']] }).set('incompatible_features', 1n << 9n)
    const file = folder.fresh('.qcow2')
    image.save(file)
    const answer = await bounded('open', file)
    expect(answer.error?.reason).toBe('Unsupported qcow2 feature(s): tesseract')
  })
})

describeWith(['qemu-img'], 'malformed qcow2 images as QEMU sees them', () => {
  it.each(rows.filter(({ name }) => isDrawn(name)).map((row) => [row.name, row] as const))('%s', async (_name, row) => {
    const file = save(row)
    const differs = row.differs ?? {}
    if (differs.all !== undefined) return
    // A relative data file name is relative to the working folder for QEMU.
    const settings = { timeout: 20_000, cwd: dirname(file) }
    const info = await tryQemuImg(['info', '-U', '-f', 'qcow2', '--output=json', file], settings)
    const size = info.code === 0 ? (JSON.parse(info.stdout) as { 'virtual-size': number })['virtual-size'] : 0
    const opened = await engine.run({ op: 'open', file })
    if (differs.open === undefined && row.read === undefined) {
      // info opens no backing file, so it tells less than a command that reads.
      const map = await tryQemuImg(['map', '-U', '-l', '512', '-f', 'qcow2', file], settings)
      expect.soft(opened.error === undefined, `opens; QEMU: ${map.stderr || 'opens'}`).toBe(map.code === 0)
    }
    if (opened.error === undefined && size <= 128 * 1024 * 1024 && differs.read === undefined) {
      const raw = `${file}.raw`
      const convert = await tryQemuImg(['convert', '-U', '-f', 'qcow2', '-O', 'raw', file, raw], settings)
      const read = await engine.run({ op: 'read', file })
      const ours = read.error === undefined ? read.result : 'an error'
      const theirs = convert.code === 0 ? await fileSha(raw) : 'an error'
      expect
        .soft(ours, `guest bytes; ours: ${read.error?.message ?? 'reads'}; QEMU: ${convert.stderr || 'reads'}`)
        .toBe(theirs)
    }
    if (differs.check === undefined) {
      const theirs = await qemuCheck(file, 'qcow2', undefined, settings)
      const ours = await engine.run({ op: 'check', file })
      expect
        .soft(counters(ours), `check; QEMU: ${theirs?.stderr.slice(0, 300)}`)
        .toEqual(
          theirs === undefined ? 'an error' : [theirs.corruptions ?? 0, theirs.leaks ?? 0, theirs['check-errors']],
        )
    }
  })
})

function counters(answer: Answer): unknown {
  if (answer.error !== undefined) return 'an error'
  const { corruptions, leaks, checkErrors } = answer.result as Record<string, number>
  return [corruptions, leaks, checkErrors]
}
