/** Joins a program's modules into one file in which each is a function that runs when the first of its exports is used: for the standalone executable.
 *
 *  A module of its own costs Bun's loader about 80 µs, and what a module makes at its top costs as much as it makes; a function that nobody calls costs next to nothing. So a
 *  command pays for what it uses. It is the same program as long as no module does anything but make its exports: those that do are run by the import that is for
 *  that (`import './signals.ts'`), where it stands. */
import { isBuiltin } from 'node:module'
import { posix } from 'node:path'
import { parseSync } from 'oxc-parser'
import { type OutputChunk, rolldown } from 'rolldown'

/** What is joined, and how. */
export interface LateProgram {
  /** Absolute. */
  entry: string
  /** The folder that all modules lie in, absolute. */
  root: string
  /** Names of modules that are joined too, besides relative ones and `#…`. */
  takenIn: readonly string[]
  conditions: readonly string[]
  /** Names that stand for a text. */
  define: Record<string, string>
  /** Modules of Node in whose place the default export of a module of the program stands (absolute). */
  replaced: Record<string, string>
}

const ownUrl = 'importMetaUrl'

/** Called from within modules, whose own names must not come before it. */
const moduleOf = 'module$of'

/** A function that may never be called costs a little too, when what it stands in is run: so they stand in groups, which are functions themselves. */
const groupSize = 16

/** The program as the text of one ES module. Packages that are not taken in are left to be resolved. */
export async function joinLate({ entry, root, takenIn, conditions, define, replaced }: LateProgram): Promise<string> {
  const bundle = await rolldown({
    input: { entry, ...replaced },
    external: (id) => !/^[./#]/.test(id) && !takenIn.includes(id),
    platform: 'node',
    resolve: { conditionNames: [...conditions] },
    transform: { define: { ...define, 'import.meta.url': ownUrl } },
    // What is loaded late by one module and at once by another is no fault; and the one other `import.meta` is for other runtimes.
    onLog(level, log, report) {
      if (log.code !== 'INEFFECTIVE_DYNAMIC_IMPORT' && log.code !== 'EMPTY_IMPORT_META') report(level, log)
    },
  })
  const { output } = await bundle.generate({
    format: 'cjs',
    exports: 'named',
    preserveModules: true,
    preserveModulesRoot: root,
    entryFileNames: '[name].js',
    comments: false,
  })
  await bundle.close()
  const chunks = output.filter((part): part is OutputChunk => part.type === 'chunk')
  const places = new Map(chunks.map(({ fileName }, at) => [fileName, `${moduleOf}(${at})`]))
  for (const { fileName, code } of chunks)
    if (code.includes(moduleOf)) throw new Error(`${fileName} has a name ${moduleOf}`)
  for (const [name, file] of Object.entries(replaced)) {
    places.set(name, `${moduleOf}(${chunks.findIndex(({ facadeModuleId }) => facadeModuleId === file)}).default`)
  }
  const functions = chunks.map((chunk) => `function (exports, module) {\n${lateText(chunk, places)}\n},\n`)
  const groups: string[] = []
  for (let at = 0; at < functions.length; at += groupSize)
    groups.push(`() => [\n${functions.slice(at, at + groupSize).join('')}],\n`)
  const first = chunks.findIndex(({ facadeModuleId }) => facadeModuleId === entry)
  return [
    `const ${ownUrl} = import.meta.url`,
    `const groups = [\n${groups.join('')}]`,
    'const parts = []',
    'const made = []',
    `function ${moduleOf}(number) {
      let module = made[number]
      if (module === undefined) {
        made[number] = module = { exports: {} }
        const at = number % ${groupSize}
        const group = (number - at) / ${groupSize}
        const part = (parts[group] ??= groups[group]())[at]
        part(module.exports, module)
      }
      return module.exports
    }`,
    `${moduleOf}(${first})\n`,
  ].join('\n')
}

interface Edit {
  start: number
  end: number
  text: string
}

type SyntaxNode = { type: string; start: number; end: number } & Record<string, unknown>

/** A module as rolldown writes it for CommonJS, in which it gets what it imports from the program and from Node at the first use. Packages are required where they stand. */
function lateText({ fileName, code }: OutputChunk, places: ReadonlyMap<string, string>): string {
  const { program, errors } = parseSync(fileName, code, { sourceType: 'commonjs' })
  if (errors[0] !== undefined) throw new Error(`${fileName}: ${errors[0].message}`)
  const edits: Edit[] = []
  /** Names of what is had late, the expression that has it (a function of its own for each would cost a start 3 %), and whether that is a module of Node, whose default is itself. */
  const late = new Map<string, { had: string; builtin: boolean }>()

  const placeOf = (required: string): string => {
    const own = required.startsWith('.')
    const place = places.get(own ? posix.join(posix.dirname(fileName), required) : required)
    if (own && place === undefined) throw new Error(`${fileName} requires ${required}, which is not there`)
    return place ?? `require(${JSON.stringify(required)})`
  }

  const visit = (node: SyntaxNode): void => {
    const required = requiredBy(node)
    if (required?.startsWith('.') === true) {
      edits.push({ ...rangeOf(node), text: placeOf(required) })
      return
    }
    const object = node.type === 'MemberExpression' && node.computed !== true ? asNode(node.object) : undefined
    const builtin = object === undefined ? undefined : late.get(nameOf(object) ?? '')
    if (object !== undefined && builtin?.builtin === true) {
      const whole = nameOf(asNode(node.property)) === 'default'
      edits.push({ ...rangeOf(whole ? node : object), text: builtin.had })
      return
    }
    const named = late.get(nameOf(node) ?? '')
    if (named !== undefined) {
      edits.push({ ...rangeOf(node), text: named.had })
      return
    }
    for (const [key, value] of Object.entries(node)) {
      const isName = (key === 'property' || key === 'key') && node.computed !== true && node.shorthand !== true
      if (isName) continue
      for (const inner of Array.isArray(value) ? value : [value]) {
        const child = asNode(inner)
        if (child !== undefined) visit(child)
      }
    }
  }

  for (const statement of program.body as unknown as SyntaxNode[]) {
    const declaration = lateDeclaration(statement)
    if (declaration !== undefined) {
      const { name, required } = declaration
      late.set(name, { had: `(${name} ??= ${placeOf(required)})`, builtin: !required.startsWith('.') })
      edits.push({ ...rangeOf(statement), text: `let ${name};` })
    } else if (late.has(assignedBy(statement) ?? '')) {
      // rolldown's copy of a module of Node, which would read all that is in it.
      edits.push({ ...rangeOf(statement), text: '' })
    } else {
      visit(statement)
    }
  }
  return edits
    .sort((a, b) => b.start - a.start)
    .reduce((text, { start, end, text: by }) => text.slice(0, start) + by + text.slice(end), code)
}

/** `const name = require('…')` of a module of the program or of Node. */
function lateDeclaration(statement: SyntaxNode): { name: string; required: string } | undefined {
  if (statement.type !== 'VariableDeclaration') return undefined
  const [declaration, second] = statement.declarations as SyntaxNode[]
  const name = nameOf(asNode(declaration?.id))
  const required = requiredBy(asNode(declaration?.init))
  if (second !== undefined || name === undefined || required === undefined) return undefined
  const known = required.startsWith('.') || required.startsWith('bun:') || isBuiltin(required)
  return known ? { name, required } : undefined
}

/** What `require('…')` names. */
function requiredBy(node: SyntaxNode | undefined): string | undefined {
  if (node?.type !== 'CallExpression' || nameOf(asNode(node.callee)) !== 'require') return undefined
  const [named] = node.arguments as SyntaxNode[]
  return typeof named?.value === 'string' ? named.value : undefined
}

/** The name that a statement gives another value. */
function assignedBy(statement: SyntaxNode): string | undefined {
  const expression = statement.type === 'ExpressionStatement' ? asNode(statement.expression) : undefined
  return expression?.type === 'AssignmentExpression' ? nameOf(asNode(expression.left)) : undefined
}

function nameOf(node: SyntaxNode | undefined): string | undefined {
  return node?.type === 'Identifier' ? (node.name as string) : undefined
}

function asNode(value: unknown): SyntaxNode | undefined {
  return typeof value === 'object' && value !== null && 'type' in value ? (value as SyntaxNode) : undefined
}

function rangeOf({ start, end }: SyntaxNode): Pick<Edit, 'start' | 'end'> {
  return { start, end }
}
