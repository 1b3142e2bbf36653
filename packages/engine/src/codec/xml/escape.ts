/** Text as it stands in XML. */
import { MoraineError } from '../../core/index.ts'

const named: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\n': '&#10;',
  '\t': '&#9;',
}

/** Escapes a text for an element or an attribute.
 *  @throws MoraineError `invalid` for characters that XML cannot have. */
export function escapeXml(text: string): string {
  for (const letter of text) {
    const code = letter.codePointAt(0) ?? 0
    if (
      (code >= 0x20 || code === 9 || code === 10) &&
      !(code >= 0xd800 && code < 0xe000) &&
      code !== 0xfffe &&
      code !== 0xffff
    )
      continue
    throw new MoraineError('invalid', 'a text has a character that XML cannot have', {
      field: 'text',
      value: JSON.stringify(text.slice(0, 60)),
    })
  }
  return text.replace(/[&<>"\n\t]/g, (letter) => named[letter] ?? letter)
}
