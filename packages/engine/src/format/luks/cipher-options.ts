/** The options of new LUKS containers, the same for one of its own and within a qcow2 image, where their names have a prefix. Names, order, defaults and words: QEMU 7.2. */
import { type CipherName, type CryptoLibrary, type HashName, MoraineError, type Secrets } from '../../core/index.ts'
import { type NewLuks, newLuks, type Random } from '../../crypt/luks-keys.ts'
import { hashNames, ivNames, modeNames } from '../../crypt/sector-cipher.ts'
import { cryptoOf, secretOf } from '../key-secret.ts'
import type { OptionSpec, OptionValues } from '../options.ts'

/** Algorithms by QEMU's names: the cipher and the bytes of its key; none for those that it knows and no build of Debian's has. */
const algorithms: Record<string, readonly [CipherName, number] | undefined> = {
  'aes-128': ['aes', 16],
  'aes-192': ['aes', 24],
  'aes-256': ['aes', 32],
  des: undefined,
  '3des': undefined,
  'cast5-128': ['cast5', 16],
  'serpent-128': ['serpent', 16],
  'serpent-192': ['serpent', 24],
  'serpent-256': ['serpent', 32],
  'twofish-128': ['twofish', 16],
  'twofish-192': ['twofish', 24],
  'twofish-256': ['twofish', 32],
}

/** The options, each name behind `prefix`. */
export function luksCipherOptions(prefix: string): OptionSpec[] {
  const text = (name: string, help: string): OptionSpec => ({ name: `${prefix}${name}`, type: 'string', help })
  return [
    text('cipher-alg', 'Name of encryption cipher algorithm'),
    text('cipher-mode', 'Name of encryption cipher mode'),
    text('ivgen-alg', 'Name of IV generator algorithm'),
    text('ivgen-hash-alg', 'Name of IV generator hash algorithm'),
    text('hash-alg', 'Name of encryption hash algorithm'),
    { name: `${prefix}iter-time`, type: 'number', help: 'Time to spend in PBKDF in milliseconds' },
  ]
}

/** Milliseconds that QEMU spends on a key slot where nothing else is said. */
export const defaultIterTime = 2000

/** What a new container shall be, without its password.
 *  @throws MoraineError `invalid` for names that QEMU has not, `unsupported` for those of which only the name is known. */
export function planLuks(options: OptionValues, prefix: string): Omit<NewLuks, 'password'> {
  const value = (name: string): string | undefined => options[`${prefix}${name}`] as string | undefined
  const choose = <Name extends string>(name: string, names: readonly Name[], otherwise: Name): Name => {
    const text = value(name)
    if (text === undefined) return otherwise
    const found = names.find((entry) => entry === text)
    if (found !== undefined) return found
    throw new MoraineError('invalid', `Parameter '${name}' does not accept value '${text}'`, {
      field: `${prefix}${name}`,
      value: text,
      rule: `one of ${names.join(', ')}`,
    })
  }
  const algorithm = choose('cipher-alg', Object.keys(algorithms), 'aes-256')
  const mode = choose('cipher-mode', modeNames, 'xts')
  const iv = choose('ivgen-alg', ivNames, 'plain64')
  const ivHashGiven = value('ivgen-hash-alg') !== undefined
  const ivHash: HashName | undefined =
    ivHashGiven || iv === 'essiv' ? choose('ivgen-hash-alg', hashNames, 'sha256') : undefined
  const hash = choose('hash-alg', hashNames, 'sha256')
  const found = algorithms[algorithm]
  if (found === undefined) {
    throw new MoraineError('unsupported', `Algorithm '${algorithm}' not supported`, {
      field: `${prefix}cipher-alg`,
      value: algorithm,
    })
  }
  const [cipher, keyBytes] = found
  const iterTime = (options[`${prefix}iter-time`] as number | undefined) ?? defaultIterTime
  return {
    spec: { cipher, mode, iv, ivHash },
    hash,
    keyBytes: mode === 'xts' ? 2 * keyBytes : keyBytes,
    // QEMU takes a number with a sign for one without; what it gets is too long for it in both readings.
    iterTime: iterTime < 0 ? 2 ** 64 + iterTime : iterTime,
  }
}

/** Makes a container by its options.
 *  @throws MoraineError as `planLuks`, `secretOf` and `newLuks`. */
export async function makeLuks(
  context: { crypto?: CryptoLibrary | undefined; secrets?: Secrets | undefined },
  options: OptionValues,
  prefix: string,
  place: { path: string; format: string },
  random: Random,
) {
  const plan = planLuks(options, prefix)
  const id = options[`${prefix}key-secret`] as string | undefined
  const password = secretOf(context.secrets, id, `${prefix}key-secret`, place)
  return newLuks(cryptoOf(context, place), { ...plan, password }, random, place)
}
