/** The closing line of CI: every kind of outcome is counted, and nothing that is not green ends as green. */
import { expect, test } from 'vitest'
import { addUp, closingLine, type TestReport, verdict } from '../report/add-up.ts'
import { skipReasons } from '../report/skip-reasons.ts'
import { soakPage } from '../report/soak-page.ts'

const report = (...tests: [name: string, status: string][]): TestReport => ({
  success: tests.every(([, status]) => status !== 'failed'),
  testResults: [
    {
      name: 'a.test.ts',
      status: tests.some(([, status]) => status === 'failed') ? 'failed' : 'passed',
      message: '',
      assertionResults: tests.map(([fullName, status]) => ({ fullName, status })),
    },
  ],
})

test('counts are summed over runs', () => {
  const sum = addUp([
    report(['a', 'passed'], ['b', 'failed'], ['c', 'pending']),
    report(['d', 'passed'], ['e', 'todo']),
  ])
  expect(closingLine(sum)).toBe('2 passed, 1 failed, 2 skipped')
  expect(sum).toMatchObject({ failedNames: ['b'], skippedNames: ['c', 'e'] })
  expect(verdict(sum, false)).toEqual(['1 failed'])
})

test('a file that could not be run is a failure', () => {
  const broken = { ...report(), success: false }
  Object.assign(broken.testResults[0] as object, { status: 'failed', message: 'SyntaxError: x\n at y' })
  const sum = addUp([report(['a', 'passed']), broken])
  expect(closingLine(sum)).toBe('1 passed, 1 failed, 0 skipped')
  expect(sum.failedNames).toEqual(['a.test.ts: SyntaxError: x'])
})

test('a run without tests, or one that ended badly, is not green', () => {
  expect(verdict(addUp([]), false)).toEqual(['no test was run'])
  expect(verdict(addUp([{ ...report(['a', 'passed']), success: false }]), false)).toHaveLength(1)
  expect(verdict(addUp([report(['a', 'passed'])]), true)).toEqual([])
})

test('a program that is absent is a failure in CI only', () => {
  const sum = addUp([report(['a', 'passed'], ['b [skipped: qemu-img not installed]', 'pending'])])
  expect(verdict(sum, false)).toEqual([])
  expect(verdict(sum, true)).toEqual(['1 skipped because a program is not installed'])
  expect(verdict(addUp([report(['a', 'passed'], ['b (the kernel has no loop devices)', 'pending'])]), true)).toEqual([])
})

test('the page of a soak run has date, commit, seeds and counts', () => {
  const rounds = [{ seed: 7, native: false, line: '3 passed, 1 failed, 0 skipped', minutes: 1.26 }]
  const page = soakPage({
    date: '2026-01-02',
    commit: 'abc',
    machine: 'm',
    budget: 20,
    rounds,
    failed: ['x'],
    skipped: [],
  })
  expect(page).toContain('- date: 2026-01-02\n- commit: abc\n')
  expect(page).toContain('| 7 | all | off | 3 passed, 1 failed, 0 skipped | 1.3 |')
  expect(page).toContain('## Failed\n\n- x\n')
  expect(page).not.toContain('## Skipped')
})

test('what is not installed is named once, with the tests that need it', () => {
  const file = (...tests: [fullName: string, state: string][]) => ({
    children: { allTests: () => tests.map(([fullName, state]) => ({ fullName, result: () => ({ state }) })) },
  })
  const lines = skipReasons([
    file(['a [skipped: qemu-img not installed] > one', 'skipped'], ['plain', 'passed'], ['left out', 'skipped']),
    file(['b [skipped: not root] > one', 'skipped'], ['c [skipped: qemu-img not installed] > two', 'skipped']),
  ])
  expect(lines).toEqual(['2 tests skipped: qemu-img not installed', '1 test skipped: not root'])
  expect(skipReasons([file(['plain', 'passed'])])).toEqual([])
})
