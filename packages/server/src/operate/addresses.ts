/** Lists of addresses in settings, as in `10.0.0.0/8, ::1`. */
import { BlockList, isIP, isIPv4 } from 'node:net'
import { MoraineError } from '@moraine/engine'

/** The parts of a list. @throws MoraineError `invalid` for one that is neither an address nor a network. */
export function readAddresses(setting: string, text: string): string[] {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '')
  for (const part of parts) {
    const [address = '', length, surplus] = part.split('/')
    const most = isIPv4(address) ? 32 : 128
    const isLength = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= most)
    if (isIP(address) === 0 || !isLength || surplus !== undefined) {
      throw new MoraineError(
        'invalid',
        `${setting}: '${part}' is neither an address nor a network such as 10.0.0.0/8`,
        {
          field: setting,
        },
      )
    }
  }
  return parts
}

/** A check whether an address is in a list. */
export function addressCheck(parts: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const part of parts) {
    const [address = '', length] = part.split('/')
    const family = isIPv4(address) ? 'ipv4' : 'ipv6'
    if (length === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(length), family)
  }
  // BlockList knows that ::ffff:10.0.0.1 is 10.0.0.1.
  return (address) => isIP(address) !== 0 && list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6')
}
