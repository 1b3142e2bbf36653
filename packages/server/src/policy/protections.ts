/** Who may create, read, change and delete which additional properties: the file that Glance calls property protections. Sections are regular expressions of names; the
 *  first that fits a name counts, and what no section fits nobody may touch. Each operation names roles, or, in the other format, a rule of the policy; `@` is
 *  everybody, `!` nobody. */
import { readFileSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'
import { parse } from 'ini'
import type { Caller } from '../identity/caller.ts'
import { ofCaller, type Policy } from './policy.ts'

const operations = ['create', 'read', 'update', 'delete'] as const
export type PropertyOperation = (typeof operations)[number]

interface Section {
  readonly pattern: RegExp
  readonly allowed: Readonly<Record<PropertyOperation, readonly string[]>>
}

export class Protections {
  readonly #sections: readonly Section[] | undefined
  readonly #policy: Policy | undefined

  /** @param sections Undefined: everybody may do everything. @param policy Where the names are rules, not roles. */
  constructor(sections?: readonly Section[], policy?: Policy) {
    this.#sections = sections
    this.#policy = policy
  }

  /** Whether there is anything to ask. */
  get isOn(): boolean {
    return this.#sections !== undefined
  }

  allows(operation: PropertyOperation, name: string, caller: Caller): boolean {
    if (this.#sections === undefined) return true
    const section = this.#sections.find(({ pattern }) => pattern.test(name))
    const allowed = section?.allowed[operation] ?? []
    if (allowed.includes('!')) return false
    if (allowed.includes('@')) return true
    const policy = this.#policy
    if (policy !== undefined) return allowed.some((rule) => policy.allowsRule(rule, caller, ofCaller(caller)))
    return allowed.some((role) => caller.roles.has(role.toLowerCase()))
  }
}

/** Reads the operator's file. @param path Empty: there is none. @throws MoraineError `missing` or `invalid`. */
export function readProtections(path: string, format: 'roles' | 'policies', policy: Policy): Protections {
  if (path === '') return new Protections()
  const wrong = (reason: string, kind: 'missing' | 'invalid' = 'invalid') =>
    new MoraineError(kind, `propertyProtectionFile: ${path}: ${reason}`, { field: 'propertyProtectionFile' })
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw wrong((error as Error).message, 'missing')
  }
  const sections: Section[] = []
  // The library makes a tree of dots in a section's name; here they are part of an expression.
  for (const [name, rules] of Object.entries(parse(escaped(text)))) {
    const expression = unescaped(name)
    if (typeof rules !== 'object') throw wrong(`'${expression}' stands before the first section`)
    let pattern: RegExp
    try {
      pattern = new RegExp(expression)
    } catch (error) {
      throw wrong(`[${expression}]: ${(error as Error).message}`)
    }
    const allowed = Object.fromEntries(
      operations.map((operation) => {
        const written = (rules as Record<string, unknown>)[operation]
        if (written === undefined) throw wrong(`[${expression}] does not say who may ${operation}`)
        const names = String(written)
          .split(',')
          .map((part) => unescaped(part.trim()))
          .filter((part) => part !== '')
        if (names.includes('@') && names.includes('!')) {
          throw wrong(`[${expression}] ${operation}: @ and ! are mutually exclusive`)
        }
        if (format === 'policies') {
          if (names.length > 1) throw wrong(`[${expression}] ${operation}: only one rule of the policy can be named`)
          const unknown = names.find((rule) => rule !== '@' && rule !== '!' && !policy.hasRule(rule))
          if (unknown !== undefined) throw wrong(`[${expression}] ${operation}: the policy has no rule ${unknown}`)
        }
        return [operation, names]
      }),
    ) as unknown as Section['allowed']
    sections.push({ pattern, allowed })
  }
  return new Protections(sections, format === 'policies' ? policy : undefined)
}

const dot = '\u0001'
const escaped = (text: string) => text.replaceAll('.', dot)
const unescaped = (text: string) => text.replaceAll(dot, '.')
