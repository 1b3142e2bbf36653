/** Loop devices: block devices made of files. Needs root and losetup. */
import { execFileSync } from 'node:child_process'
import { tool } from './process.ts'

/** The path of losetup. */
export function losetup(): string {
  return tool('losetup').path ?? ''
}

/** Why no loop device can be made here; undefined when it can. */
export function reasonAgainstLoop(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root'
  try {
    execFileSync(losetup(), ['--find'], { stdio: 'pipe' })
    return undefined
  } catch {
    return 'the kernel gives no loop device'
  }
}

/** Makes a loop device of a file; its path. */
export function attachLoop(file: string, ...options: string[]): string {
  return execFileSync(losetup(), ['--find', '--show', ...options, file], { encoding: 'utf8' }).trim()
}

/** Takes a loop device away. */
export function detachLoop(device: string): void {
  execFileSync(losetup(), ['--detach', device])
}
