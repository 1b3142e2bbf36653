/** Every exported symbol of the engine has a docstring, and every module's first lines say what it is for. */
import type { Problem } from './problem.ts'
import type { SourceFile } from './sources.ts'

type Statement = SourceFile['parsed']['program']['body'][number]

/** Exports of `files` that stand without a docstring, where they are declared. What is only passed on (`export … from`) is
 *  documented where it comes from. */
export function checkDocs(files: readonly SourceFile[]): Problem[] {
  return files.flatMap((file) => [...checkHeader(file), ...checkExports(file)])
}

function checkHeader(file: SourceFile): Problem[] {
  const [comment] = file.parsed.comments
  const opening = comment === undefined ? '' : file.text.slice(0, comment.start).replace(/^#!.*/, '')
  if (comment !== undefined && opening.trim() === '' && /\w{3}/.test(comment.value)) return []
  return [
    { file: file.path, line: 1, rule: 'module-comment', message: 'the first lines of a module say what it is for' },
  ]
}

function checkExports(file: SourceFile): Problem[] {
  const { body } = file.parsed.program
  const documented = new Set<string>()
  const bare = new Map<string, number>()
  const note = (names: readonly string[], start: number, ok: boolean) => {
    for (const name of names) {
      if (ok) documented.add(name)
      else if (!bare.has(name)) bare.set(name, start)
    }
  }

  for (const statement of body) {
    if (statement.type === 'ExportNamedDeclaration') {
      if (statement.declaration !== null) {
        note(namesOf(statement.declaration), statement.start, hasDocstring(file, statement))
      } else if (statement.source === null) {
        for (const { local } of statement.specifiers) {
          const name = local.type === 'Literal' ? String(local.value) : local.name
          const origin = declarationOf(body, name)
          // An import that is exported again is documented where it comes from.
          if (origin !== undefined) note([name], statement.start, hasDocstring(file, origin))
        }
      }
    } else if (statement.type === 'ExportDefaultDeclaration') {
      note(['default'], statement.start, hasDocstring(file, statement))
    } else if (statement.type === 'TSExportAssignment') {
      note(['export ='], statement.start, hasDocstring(file, statement))
    }
  }

  // Overloads: one docstring is enough for a name.
  return [...bare]
    .filter(([name]) => !documented.has(name))
    .map(([name, start]) => ({
      file: file.path,
      line: file.lineAt(start),
      rule: 'docstring',
      message: `exported \`${name}\` has no docstring`,
    }))
}

function declarationOf(body: readonly Statement[], name: string): Statement | undefined {
  return body.find((statement) => namesOf(statement).includes(name))
}

/** The names that a declaration brings into its module. */
function namesOf(
  node: Statement | NonNullable<Extract<Statement, { type: 'ExportNamedDeclaration' }>['declaration']>,
): string[] {
  switch (node.type) {
    case 'VariableDeclaration':
      return node.declarations.map(({ id }) => (id.type === 'Identifier' ? id.name : '(destructured)'))
    case 'FunctionDeclaration':
    case 'TSDeclareFunction':
    case 'ClassDeclaration':
    case 'TSInterfaceDeclaration':
    case 'TSTypeAliasDeclaration':
    case 'TSEnumDeclaration':
      return node.id === null ? ['default'] : [node.id.name]
    default:
      return []
  }
}

/** Whether a `/** … *\/` comment with words in it ends right before the statement. */
function hasDocstring(file: SourceFile, statement: Statement): boolean {
  return file.parsed.comments.some(
    ({ type, value, end }) =>
      type === 'Block' &&
      value.startsWith('*') &&
      /\w{3}/.test(value) &&
      end <= statement.start &&
      file.text.slice(end, statement.start).trim() === '' &&
      !isModuleComment(file, end, statement),
  )
}

/** The comment that opens a module is the module's, unless it touches the statement that follows. */
function isModuleComment(file: SourceFile, end: number, statement: Statement): boolean {
  const first = file.parsed.comments[0]
  return first?.end === end && file.text.slice(end, statement.start).includes('\n\n')
}
