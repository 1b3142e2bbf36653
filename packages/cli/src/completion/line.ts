/** Words of a command line as a shell reads it, for completion. */

/** The words of a line that ends where the cursor is; the last one, which may be empty, is the word that is being written. Quotes and backslashes are taken
 *  away, and variables stand as they are. Only what comes after the last `;`, `|` or `&` counts. */
export function splitLine(line: string): string[] {
  let words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < line.length; at++) {
    const letter = line[at] ?? ''
    if (quote === "'") {
      if (letter === "'") quote = ''
      else word += letter
    } else if (letter === '\\' && at + 1 < line.length) {
      const next = line[++at] ?? ''
      word = (word ?? '') + (quote === '"' && !'"\\$`'.includes(next) ? `\\${next}` : next)
    } else if (letter === quote) {
      quote = ''
    } else if (quote === '' && (letter === "'" || letter === '"')) {
      quote = letter
      word ??= ''
    } else if (quote === '' && (letter === ' ' || letter === '\t')) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (quote === '' && (letter === ';' || letter === '|' || letter === '&')) {
      words = []
      word = undefined
    } else word = (word ?? '') + letter
  }
  return [...words, word ?? '']
}
