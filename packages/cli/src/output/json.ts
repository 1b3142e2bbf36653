/** JSON as QEMU prints it: its order of keys, its four blanks, its escapes. Scripts and tests compare the text. */

/** What can be printed. Absent (`undefined`) members are left out. */
export type JsonValue = string | number | bigint | boolean | JsonValue[] | { [key: string]: JsonValue | undefined }

const buckets = 512

/** QEMU keeps dictionaries in a table of 512 lists and prints it from the first list to the last, the newest key of a list first.
 *  The hash is that of tdb (Source: measured against qemu-img 7.2; the function stands in QEMU's `qobject/qdict.c`). */
function bucketOf(key: string): number {
  const bytes = new TextEncoder().encode(key)
  let value = Math.imul(0x238f13af, bytes.length)
  for (const [i, byte] of bytes.entries()) value = (value + (byte << ((i * 5) % 24))) | 0
  return ((Math.imul(1103515243, value) + 12345) >>> 0) % buckets
}

/** The members in the order in which QEMU prints them. */
export function qemuOrder<T>(members: [string, T][]): [string, T][] {
  return members
    .map((member, age) => ({ member, age, bucket: bucketOf(member[0]) }))
    .sort((a, b) => a.bucket - b.bucket || b.age - a.age)
    .map(({ member }) => member)
}

/** The value as text over several lines, without a newline at the end. */
export function toPrettyJson(value: JsonValue, indent = 0): string {
  if (Array.isArray(value)) {
    return wrap(
      '[',
      value.map((item) => toPrettyJson(item, indent + 1)),
      ']',
      indent,
    )
  }
  if (typeof value === 'object') {
    const members = Object.entries(value).filter((member): member is [string, JsonValue] => member[1] !== undefined)
    return wrap(
      '{',
      qemuOrder(members).map(([key, item]) => `${quote(key)}: ${toPrettyJson(item, indent + 1)}`),
      '}',
      indent,
    )
  }
  return typeof value === 'string' ? quote(value) : String(value)
}

function wrap(open: string, items: string[], close: string, indent: number): string {
  if (items.length === 0) return `${open}\n${'    '.repeat(indent)}${close}`
  const blanks = '    '.repeat(indent + 1)
  return `${open}\n${blanks}${items.join(`,\n${blanks}`)}\n${'    '.repeat(indent)}${close}`
}

const escapes: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
}

/** A string in quotes; everything but printable ASCII is escaped. */
export function quote(string: string): string {
  // Bytes that are not UTF-8.
  const text = string.toWellFormed()
  let out = '"'
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    const known = escapes[text.charAt(i)]
    if (known !== undefined) out += known
    else if (unit >= 0x20 && unit < 0x7f) out += text.charAt(i)
    else out += `\\u${unit.toString(16).toUpperCase().padStart(4, '0')}`
  }
  return `${out}"`
}
