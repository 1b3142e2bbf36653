/** The language of policy rules, which is that of oslo.policy, so that a `policy.yaml` written for Glance is read as it is:
 *  `role:NAME`, `project_id:%(owner)s`, `'public':%(visibility)s`, `rule:OTHER`, `@` (always), `!` (never), `not`, `and`, `or`, parentheses.
 *  An empty rule allows. */
import type { Caller } from '../identity/caller.ts'

/** What a rule is asked about: the value of a name such as `owner`; undefined where there is none. */
export type Target = (name: string) => string | null | undefined

/** Whether a rule holds. */
export type Check = (caller: Caller, target: Target) => boolean

/** A rule that cannot be read; the text says where. */
export class RuleError extends Error {}

type Named = (rule: string) => Check | undefined

const tokenPattern = /\s*(\(|\)|(?:%\([^)]*\)s|'[^']*'|"[^"]*"|[^\s()'"])+)/y

/** Reads a rule. @param named Finds the rules that `rule:NAME` mentions, when they are asked for. @throws RuleError */
export function parseRule(text: string, named: Named): Check {
  const tokens = split(text)
  if (tokens.length === 0) return () => true
  let at = 0
  const either = (): Check => {
    const checks = [both()]
    while (isWord('or')) checks.push(both())
    return checks.length === 1 ? (checks[0] as Check) : (...asked) => checks.some((check) => check(...asked))
  }
  const both = (): Check => {
    const checks = [one()]
    while (isWord('and')) checks.push(one())
    return checks.length === 1 ? (checks[0] as Check) : (...asked) => checks.every((check) => check(...asked))
  }
  const one = (): Check => {
    if (isWord('not')) {
      const check = one()
      return (...asked) => !check(...asked)
    }
    const token = tokens[at++]
    if (token === undefined) throw new RuleError(`'${text}' ends where a check is expected`)
    if (token !== '(') return single(token, text, named)
    const check = either()
    if (tokens[at++] !== ')') throw new RuleError(`'${text}' has a parenthesis that is not closed`)
    return check
  }
  const isWord = (word: string): boolean => {
    if (tokens[at]?.toLowerCase() !== word) return false
    at++
    return true
  }
  const check = either()
  if (at < tokens.length) throw new RuleError(`'${text}' goes on with '${tokens[at]}' where it should end`)
  return check
}

function split(text: string): string[] {
  const tokens: string[] = []
  let at = 0
  while (text.slice(at).trim() !== '') {
    tokenPattern.lastIndex = at
    const match = tokenPattern.exec(text)
    if (match === null) throw new RuleError(`'${text}' cannot be read at '${text.slice(at).trim()}'`)
    tokens.push(match[1] ?? '')
    at = tokenPattern.lastIndex
  }
  return tokens
}

function single(token: string, text: string, named: Named): Check {
  if (token === '@') return () => true
  if (token === '!') return () => false
  const parts = /^('[^']*'|"[^"]*"|[^:]*):(.+)$/s.exec(token)
  if (parts === null) throw new RuleError(`'${token}' in '${text}' is no check, which has the form kind:value`)
  const [, kind = '', value = ''] = parts
  if (kind === 'rule') {
    return (...asked) => named(value)?.(...asked) ?? false
  }
  const expected = template(value)
  if (kind === 'is_admin') {
    return (caller, target) => {
      const isAdmin = named('context_is_admin')?.(caller, target) ?? caller.roles.has('admin')
      return (isAdmin ? 'True' : 'False') === expected(target)
    }
  }
  if (kind === 'role') {
    return (caller, target) => {
      const role = expected(target)
      return role !== undefined && caller.roles.has(role.toLowerCase())
    }
  }
  const actual = quoted(kind) ?? callerValue(kind)
  return (caller, target) => {
    const value = typeof actual === 'string' ? actual : actual(caller)
    return value !== undefined && value !== null && value === expected(target)
  }
}

function quoted(text: string): string | undefined {
  return /^(['"])(.*)\1$/s.exec(text)?.[2]
}

/** A value with `%(name)s` in it; undefined where the target has no such name. */
function template(text: string): (target: Target) => string | undefined {
  const plain = quoted(text) ?? text
  if (!plain.includes('%(')) return () => plain
  return (target) => {
    let isWhole = true
    const filled = plain.replace(/%\(([^)]*)\)s/g, (_all, name: string) => {
      const value = target(name)
      if (value === undefined || value === null) isWhole = false
      return value ?? ''
    })
    return isWhole ? filled : undefined
  }
}

/** What a rule can ask about the caller, and constants such as `True`. */
function callerValue(kind: string): string | ((caller: Caller) => string | null) {
  switch (kind) {
    case 'project_id':
    case 'tenant':
      return ({ projectId }) => projectId
    case 'user_id':
    case 'user':
      return ({ userId }) => userId
    default:
      // A name that is not known here is nobody's: were it a text, a property of the image could be it.
      return /^(True|False|None|-?\d+(\.\d+)?)$/.test(kind) ? kind : () => null
  }
}
