/** The README's tour and the guides print what they say. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { debianKernel } from '../../packages/engine/test/support/debian.ts'
import { describeWith } from '../../packages/engine/test/support/process.ts'
import { root } from '../build/workspace.ts'
import { differences, plain, readTour, writeTour } from '../tour/page.ts'
import { pages, runTour } from '../tour/run.ts'

const text = '# x\n```console\n$ a \\\n  b\nout 1\n$ c\n```\ntext\n```\n$ d\n```\n```console\n$ e\nout 2\n```\n'

test('commands and their output are read from console blocks, and written back', () => {
  const steps = readTour(text)
  expect(steps).toEqual([
    { command: 'a \\\n  b', output: 'out 1\n' },
    { command: 'c', output: '' },
    { command: 'e', output: 'out 2\n' },
  ])
  expect(writeTour(text, ['out 1\n', '', 'out 2\n'])).toBe(text)
  expect(writeTour(text, ['out 1\n', 'new\n', 'out 2\n'])).toBe(text.replace('$ c\n', '$ c\nnew\n'))
})

test('another output is a difference, another identifier is not', () => {
  const steps = [{ command: 'a', output: 'x\n' }]
  expect(differences(steps, ['x\n'])).toEqual([])
  expect(differences(steps, ['y\n'])).toHaveLength(1)
  expect(differences(steps, [])).toHaveLength(1)
  expect(plain('id 01234567-89ab-cdef-0123-456789abcdef at 2026-01-02T03:04:05Z')).toBe('id <uuid> at <time>')
})

test('a step that fails is an error with its output', async () => {
  const steps = [
    { command: 'echo one', output: '' },
    { command: 'echo two; false', output: '' },
  ]
  await expect(runTour(steps, { ports: [9292], served: false })).rejects.toThrow(/`echo two; false` ended with 1:\ntwo/)
})

test('a here-document belongs to its command', () => {
  const steps = readTour("```console\n$ cat > f <<'END'\n$ not a command\nEND\n$ cat f\nx\n```\n")
  expect(steps).toEqual([
    { command: "cat > f <<'END'\n$ not a command\nEND", output: '' },
    { command: 'cat f', output: 'x\n' },
  ])
})

/** What the commands of every page may be. */
const usual = ['openstack', 'curl', 'openssl', 'python3', 'busybox', 'cpio', 'mke2fs', 'sfdisk', 'dpkg']

for (const page of pages) {
  describeWith([...usual, ...(page.needs ?? [])], `the commands of ${page.file}`, () => {
    test('print what it says', async (context) => {
      if (page.mirrored === true && debianKernel() === undefined) {
        return context.skip("Debian's kernel, which a machine of the page boots, cannot be fetched")
      }
      const steps = readTour(readFileSync(join(root, page.file), 'utf8'))
      expect(steps.length).toBeGreaterThan(10)
      expect(differences(steps, await runTour(steps, page))).toEqual([])
    }, 180_000)
  })
}
