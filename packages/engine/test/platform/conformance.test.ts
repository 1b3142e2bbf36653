/** Files of the host, with and without system calls, run the conformance suite. */
import fs from 'node:fs'
import { nativeAvailable, openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { sourceConformance, storeConformance } from '../source/conformance.ts'
import { temporaryFolder } from '../support/folder.ts'

const folder = temporaryFolder()

function file(content: Uint8Array): string {
  const path = folder.fresh('.img')
  fs.writeFileSync(path, content)
  return path
}

describe('system calls', () => {
  it.runIf(process.platform === 'linux' && process.env.MORAINE_NATIVE !== 'off')('are at hand here', () => {
    expect(nativeAvailable()).toBe(true)
  })
})

for (const native of [true, false]) {
  const how = native ? 'with system calls' : 'without system calls'
  sourceConformance(`a file ${how}`, (content) => openFile(file(content), { native }))
  storeConformance(`a file ${how}`, (content) => openFile(file(content), { native, mode: 'write' }))
}
sourceConformance('a file that is read in the calling thread', (content) => openFile(file(content), { reads: 'here' }))
storeConformance('a file that is read and written in the calling thread', (content) =>
  openFile(file(content), { mode: 'write', reads: 'here', writes: 'here' }),
)
storeConformance('a file that is written in the calling thread', (content) =>
  openFile(file(content), { mode: 'write', writes: 'here' }),
)

// tmpfs knows fewer of the calls than the file systems of disks do.
const shm = '/dev/shm'
if (fs.existsSync(shm)) {
  storeConformance('a file of tmpfs', async (content) => {
    const path = `${fs.mkdtempSync(`${shm}/moraine-test-`)}/disk.img`
    fs.writeFileSync(path, content)
    const store = await openFile(path, { mode: 'write' })
    // The open file stays; nothing is left behind however the test ends.
    fs.rmSync(path.slice(0, path.lastIndexOf('/')), { recursive: true })
    return store
  })
}
