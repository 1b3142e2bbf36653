/** Headers of archives that are written: ustar, and a GNU number where eleven octal digits do not do. The same files make the same archive: owner and time are none. */
import { MoraineError } from '../../core/index.ts'
import { tarBlock } from './header.ts'

const mostOctal = 8 ** 11

/** The header of a plain file; `name` has at most 100 bytes of UTF-8.
 *  @throws MoraineError `invalid` for another name. */
export function tarHeader(name: string, size: number): Uint8Array {
  const bytes = new TextEncoder().encode(name)
  if (bytes.length === 0 || bytes.length > 100 || bytes.includes(0)) {
    throw new MoraineError('invalid', 'a name cannot stand in the archive', {
      field: 'name',
      value: name.slice(0, 120),
      rule: 'at most 100 bytes',
    })
  }
  const block = new Uint8Array(tarBlock)
  const text = (at: number, value: string) => {
    for (let index = 0; index < value.length; index++) block[at + index] = value.charCodeAt(index)
  }
  block.set(bytes)
  text(100, '0000644\0')
  text(108, '0000000\0')
  text(116, '0000000\0')
  if (size < mostOctal) text(124, `${size.toString(8).padStart(11, '0')}\0`)
  else {
    block[124] = 0x80
    new DataView(block.buffer, 128, 8).setBigUint64(0, BigInt(size))
  }
  text(136, '00000000000\0')
  text(148, '        ')
  text(156, '0')
  text(257, 'ustar\x0000')
  const sum = block.reduce((total, byte) => total + byte, 0)
  text(148, `${sum.toString(8).padStart(6, '0')}\0 `)
  return block
}

/** What stands at the end. */
export const tarEndBytes = 2 * tarBlock
