/** Volumes that moraine writes boot: a BIOS starts their boot image, which finds the boot information table in itself. */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { MemoryStore, planIsoVolume } from '@moraine/engine'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, tool } from '../support/process.ts'
import { bytesOf } from './support/iso.ts'

const folder = temporaryFolder()

/** Where a BIOS puts a boot image. */
const loaded = 0x7c00
const marker = 'booted from the volume\n'

/** A boot image of four sectors: it jumps over the boot information table, looks whether that names sector 16, says so on the serial line, and stops. */
function bootImage(): Uint8Array {
  const code = [
    [0xeb, 62], // jmp 64
    ...Array.from({ length: 62 }, () => [0]),
    [0x31, 0xc0, 0x8e, 0xd8], // xor ax,ax; mov ds,ax
    [0x66, 0x83, 0x3e, (loaded + 8) & 255, (loaded + 8) >> 8, 16], // cmp dword [loaded + 8],16
    [0x75, 14], // jne stop
    [0xbe, 0, 0], // mov si,text
    [0xac, 0x84, 0xc0, 0x74, 6], // next: lodsb; test al,al; jz stop
    [0xba, 0xf8, 0x03, 0xee], // mov dx,3f8h; out dx,al
    [0xeb, 0xf5], // jmp next
    [0xfa, 0xf4], // stop: cli; hlt
  ].flat()
  const bytes = new Uint8Array(2048)
  const text = loaded + code.length
  code[64 + 4 + 6 + 2 + 1] = text & 255
  code[64 + 4 + 6 + 2 + 2] = text >> 8
  bytes.set(code)
  bytes.set(new TextEncoder().encode(marker), code.length)
  return bytes
}

/** What comes over the serial line until the marker does, or the time is up. */
function serialOf(image: string, ms: number): Promise<string> {
  return new Promise((done, fail) => {
    const args = [
      '-accel',
      'tcg',
      '-m',
      '32',
      '-display',
      'none',
      '-nodefaults',
      '-no-reboot',
      '-serial',
      'stdio',
      '-boot',
      'd',
    ]
    const child = spawn(tool('qemu-system-x86_64').path ?? '', [...args, '-cdrom', image], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    const end = (): void => {
      child.kill('SIGKILL')
    }
    const timer = setTimeout(end, ms)
    child.stdout.setEncoding('utf8').on('data', (more: string) => {
      text += more
      if (text.includes(marker)) end()
    })
    child.on('error', fail)
    child.on('close', () => {
      clearTimeout(timer)
      done(text)
    })
  })
}

describeWith(['qemu-system-x86_64'], 'volumes that boot', () => {
  it.each([[true], [false]])('with a BIOS, and a boot information table: %s', async (infoTable) => {
    const bytes = bootImage()
    const open = async () => MemoryStore.from(bytes)
    const entry = { path: 'boot/start.img', kind: 'file', size: bytes.length, open } as const
    const file = folder.fresh('.iso')
    writeFileSync(
      file,
      await bytesOf(planIsoVolume([entry], { boot: [{ path: entry.path, platform: 'bios', infoTable }] })),
    )
    // Without the table the image says nothing.
    const text = await serialOf(file, infoTable ? 40_000 : 2500)
    expect(text.includes(marker)).toBe(infoTable)
  })
})
