/** What a word of QEMU's for on or off says; undefined: it is neither. Source: QEMU, `qapi_bool_parse`. */
export function readSwitch(word: string): boolean | undefined {
  if (/^(on|yes|true|y)$/.test(word)) return true
  return /^(off|no|false|n)$/.test(word) ? false : undefined
}
