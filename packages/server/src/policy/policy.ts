/** Decides whether a caller may do something: the table of rules, with what the operator puts in their place. */
import { readFileSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'
import { parse } from 'yaml'
import { anybody, type Caller } from '../identity/caller.ts'
import { type Check, parseRule, RuleError, type Target } from './language.ts'
import { type Action, baseRules, defaultRules, replacedRules } from './rules.ts'

/** Asked about nothing in particular: only the caller counts. */
export function ofCaller(caller: Caller): Target {
  return (name) => (name === 'project_id' || name === 'owner' ? caller.projectId : undefined)
}

export class Policy {
  readonly #checks = new Map<string, Check>()

  /** @param overrides Rules by name; names that nothing asks for may serve others through `rule:NAME`.
   *  @throws MoraineError `invalid` for a rule that cannot be read. */
  constructor(overrides: Readonly<Record<string, string>> = {}) {
    const rules = withDefaults(overrides)
    for (const [name, rule] of Object.entries(rules)) {
      try {
        this.#checks.set(
          name,
          parseRule(rule, (other) => this.#checks.get(other)),
        )
      } catch (error) {
        if (!(error instanceof RuleError)) throw error
        throw new MoraineError('invalid', `policy rule ${name}: ${error.message}`, { field: name, cause: error })
      }
    }
    this.#refuseLoops(rules)
  }

  allows(action: Action, caller: Caller, target: Target = ofCaller(caller)): boolean {
    return this.#checks.get(action)?.(caller, target) ?? false
  }

  /** Whether the caller is an administrator, where no other rule decides. */
  isAdmin(caller: Caller): boolean {
    return caller === anybody || this.allowsRule('context_is_admin', caller, ofCaller(caller))
  }

  /** @param rule The name of any rule, of the operator's own too. */
  allowsRule(rule: string, caller: Caller, target: Target): boolean {
    return this.#checks.get(rule)?.(caller, target) ?? false
  }

  hasRule(rule: string): boolean {
    return this.#checks.has(rule)
  }

  /** A rule that asks itself would never answer. */
  #refuseLoops(rules: Readonly<Record<string, string>>): void {
    const settled = new Set<string>()
    const visit = (name: string, above: readonly string[]): void => {
      if (above.includes(name)) {
        throw new MoraineError('invalid', `policy rules ask each other in a circle: ${[...above, name].join(' → ')}`, {
          field: name,
        })
      }
      if (settled.has(name)) return
      const asked = (rules[name] ?? '').matchAll(/(?:^|[\s(])(?:rule:([^\s()]+)|is_admin:)/g)
      for (const [, other = 'context_is_admin'] of asked) {
        if (!this.#checks.has(other)) {
          throw new MoraineError('invalid', `policy rule ${name} asks rule ${other}, which there is not`, {
            field: name,
          })
        }
        visit(other, [...above, name])
      }
      settled.add(name)
    }
    for (const name of Object.keys(rules)) visit(name, [])
  }
}

/** All rules: those built in, with the operator's in their place. */
function withDefaults(overrides: Readonly<Record<string, string>>): Record<string, string> {
  const replaced = Object.entries(replacedRules).flatMap(([old, names]) =>
    Object.hasOwn(overrides, old) ? names.map((name) => [name, `rule:${old}`]) : [],
  )
  return { ...baseRules, ...defaultRules, ...Object.fromEntries(replaced), ...overrides }
}

/** Reads the operator's rules: YAML or JSON, one rule for each name, as oslo.policy has it.
 *  @throws MoraineError `missing` or `invalid`. */
export function readPolicy(path: string): Policy {
  if (path === '') return new Policy()
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new MoraineError('missing', `policyFile: cannot read ${path}: ${(error as Error).message}`, {
      field: 'policyFile',
      cause: error,
    })
  }
  const wrong = (reason: string, cause?: unknown) =>
    new MoraineError('invalid', `policyFile: ${path}: ${reason}`, { field: 'policyFile', cause })
  let rules: unknown
  try {
    rules = parse(text, { maxAliasCount: 0 }) ?? {}
  } catch (error) {
    throw wrong((error as Error).message, error)
  }
  if (typeof rules !== 'object' || rules === null || Array.isArray(rules)) throw wrong('it is no map of rules by name')
  for (const [name, rule] of Object.entries(rules)) {
    if (typeof rule !== 'string') throw wrong(`rule ${name} is no text`)
  }
  return new Policy(rules as Record<string, string>)
}
