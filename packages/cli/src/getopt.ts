/** GNU getopt_long, as qemu-img calls it: bundled short options, arguments joined or apart, abbreviated long options, permutation, `--`.
 *  No library reproduces it to the letter, and what it does with a wrong option shows in the messages that scripts compare.
 *  Facts: getopt(3) and measured behaviour of glibc. */

/** One option as getopt knows it. */
export interface GetoptOption {
  /** What the scan returns for it. */
  key: string
  /** One letter. */
  short?: string | undefined
  /** Without the dashes. */
  long?: string | undefined
  argument: boolean
  /** A spelling that came later: it makes nothing ambiguous that was not before. */
  later?: boolean
}

/** What one step of the scan found. `end`: no more options, operands start at `optind`. */
export type Step =
  | { kind: 'option'; key: string; value: string | undefined }
  | { kind: 'unknown'; message: string }
  | { kind: 'missing'; message: string }
  | { kind: 'end' }

/** A scan over `argv`, which it permutes so that operands come last. `argv[0]` is the program's (or verb's) name and stands in messages. */
export class Getopt {
  readonly argv: string[]
  /** Index of the next element to look at. */
  optind = 1
  private readonly options: readonly GetoptOption[]
  private readonly ordered: boolean
  /** The rest of the bundle of short options that is being read. */
  private bundle = ''
  private firstOperand = 1
  private lastOperand = 1

  /** `ordered`: stop at the first operand, as with a leading `+` or POSIXLY_CORRECT. */
  constructor(argv: string[], options: readonly GetoptOption[], ordered = false) {
    this.argv = argv
    this.options = options
    this.ordered = ordered || process.env.POSIXLY_CORRECT !== undefined
  }

  /** The next option, or the end. */
  next(): Step {
    if (this.bundle === '') {
      if (!this.findOption()) return { kind: 'end' }
      const element = this.argv[this.optind] ?? ''
      if (element.startsWith('--')) return this.readLong(element.slice(2))
      this.bundle = element.slice(1)
    }
    return this.readShort()
  }

  /** Moves to the next element that is an option; false at the end of the options. */
  private findOption(): boolean {
    const { argv } = this
    if (this.lastOperand > this.optind) this.lastOperand = this.optind
    if (this.firstOperand > this.optind) this.firstOperand = this.optind
    if (!this.ordered) {
      this.gatherOperands()
      while (this.optind < argv.length && !isOption(argv[this.optind])) this.optind++
      this.lastOperand = this.optind
    }
    if (this.optind !== argv.length && argv[this.optind] === '--') {
      this.optind++
      if (this.firstOperand === this.lastOperand) this.firstOperand = this.optind
      else if (this.lastOperand !== this.optind) this.exchange()
      this.lastOperand = argv.length
      this.optind = argv.length
    }
    if (this.optind === argv.length) {
      if (this.firstOperand !== this.lastOperand) this.optind = this.firstOperand
      return false
    }
    return isOption(argv[this.optind])
  }

  private gatherOperands(): void {
    if (this.firstOperand !== this.lastOperand && this.lastOperand !== this.optind) this.exchange()
    else if (this.lastOperand !== this.optind) this.firstOperand = this.optind
  }

  /** Moves the operands seen so far behind the options that followed them. */
  private exchange(): void {
    const operands = this.argv.slice(this.firstOperand, this.lastOperand)
    const options = this.argv.slice(this.lastOperand, this.optind)
    this.argv.splice(this.firstOperand, operands.length + options.length, ...options, ...operands)
    this.firstOperand += options.length
    this.lastOperand = this.optind
  }

  private readShort(): Step {
    const letter = this.bundle[0] ?? ''
    this.bundle = this.bundle.slice(1)
    if (this.bundle === '') this.optind++
    const option = letter === ':' || letter === ';' ? undefined : this.shortOption(letter)
    if (option === undefined) return { kind: 'unknown', message: `invalid option -- '${letter}'` }
    if (!option.argument) return { kind: 'option', key: option.key, value: undefined }
    let value = this.bundle
    this.bundle = ''
    if (value !== '') this.optind++
    else if (this.optind === this.argv.length) {
      return { kind: 'missing', message: `option requires an argument -- '${letter}'` }
    } else {
      value = this.argv[this.optind] ?? ''
      this.optind++
    }
    return { kind: 'option', key: option.key, value }
  }

  private readLong(text: string): Step {
    const at = text.indexOf('=')
    const name = at < 0 ? text : text.slice(0, at)
    this.optind++
    const found = this.matchLong(name)
    if (found.length > 1) {
      const list = found.map(({ long }) => ` '--${long}'`).join('')
      return { kind: 'unknown', message: `option '--${text}' is ambiguous; possibilities:${list}` }
    }
    const [option] = found
    if (option === undefined) return { kind: 'unknown', message: `unrecognized option '--${text}'` }
    if (at >= 0) {
      if (option.argument) return { kind: 'option', key: option.key, value: text.slice(at + 1) }
      return { kind: 'unknown', message: `option '--${option.long}' doesn't allow an argument` }
    }
    if (!option.argument) return { kind: 'option', key: option.key, value: undefined }
    if (this.optind === this.argv.length) {
      return { kind: 'missing', message: `option '--${option.long}' requires an argument` }
    }
    return { kind: 'option', key: option.key, value: this.argv[this.optind++] ?? '' }
  }

  private shortOption(letter: string): GetoptOption | undefined {
    const named = this.options.filter(({ short }) => short === letter)
    return named.find(({ later }) => later !== true) ?? named[0]
  }

  /** The option that is meant: the exact one, or the only one that begins so; several when it is ambiguous. What came later is looked for
   *  last, and several names of one option are one. */
  private matchLong(name: string): GetoptOption[] {
    const begun = this.options.filter(({ long }) => long?.startsWith(name))
    const first = begun.filter(({ later }) => later !== true)
    const exact = first.find(({ long }) => long === name) ?? begun.find(({ long }) => long === name)
    if (exact !== undefined) return [exact]
    if (first.length > 0) return first
    return begun.every(({ key }) => key === begun[0]?.key) ? begun.slice(0, 1) : begun
  }
}

function isOption(element: string | undefined): boolean {
  return element !== undefined && element.length > 1 && element.startsWith('-')
}
