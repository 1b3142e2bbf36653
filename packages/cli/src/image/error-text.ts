/** What a server says in the body of an error, as one line: Keystone's and Glance's JSON, the HTML page of WebOb and of proxies, or plain text. */

/** The words of an error body without its status line and markup; empty when there are none. */
export function errorWords(contentType: string, body: string): string {
  const words =
    fromJson(body) ?? (/html/i.test(contentType) || /^\s*<(!doctype|html)/i.test(body) ? fromHtml(body) : body)
  const line = oneLine(words)
  // WebOb's plain text begins with the status.
  return line
    .replace(/^[1-5]\d\d [A-Z][A-Za-z -]*?(?= {2}|$)/, '')
    .replace(/ {2,}/g, ' ')
    .trim()
    .slice(0, 1000)
}

function fromJson(body: string): string | undefined {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return undefined
  }
  // Of a document that is no error nothing is said.
  return typeof value === 'object' ? fromHtml(messageOf(value) ?? '') : undefined
}

function messageOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value !== 'object' || value === null) return undefined
  const { message, error, detail, description } = value as Record<string, unknown>
  return [message, error, detail, description].map(messageOf).find((text) => text !== undefined)
}

function fromHtml(text: string): string {
  return text
    .replace(/<(head|script|style|h1)\b[\s\S]*?<\/\1>/gi, ' ')
    .replace(/<[a-z/!][^>]*>/gi, ' ')
    .replace(/&(lt|gt|quot|amp|nbsp|#x27|#39);/g, (_, name: string) => entities[name] ?? ' ')
}

const entities: Readonly<Record<string, string>> = {
  lt: '<',
  gt: '>',
  quot: '"',
  amp: '&',
  nbsp: ' ',
  '#x27': "'",
  '#39': "'",
}

/** Text of a server made fit for a terminal: control characters would move its cursor. A break becomes two blanks. */
function oneLine(text: string): string {
  return plainText(
    text
      .trim()
      .replace(/\s*\n\s*/g, '  ')
      .replace(/[ \t]{3,}/g, '  '),
  )
}

/** The same text with its control characters made visible: names come from strangers. */
export function plainText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what must not reach a terminal.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    return character === '\t' ? ' ' : `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}
