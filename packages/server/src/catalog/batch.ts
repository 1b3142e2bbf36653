/** Several statements in one: they are sent together, and happen together or not at all. What needs no answer in between costs one way to the database that way, and
 *  shares its commit with others. */
import type { CompiledQuery, Dialect, QueryResult } from 'kysely'

export interface BatchStep {
  query: CompiledQuery
  /** When it changes and finds no row, the whole batch is taken back. */
  mustGive?: boolean
}

/** Ways to a database that Kysely does not have. */
export interface ShortWays {
  /** Resolves when all of it is on stable storage. @throws EmptyStep */
  batch(steps: readonly BatchStep[]): Promise<QueryResult<unknown>[]>
  /** Asks for what is committed and found by its key: few rows, at once. */
  look<Row>(query: CompiledQuery<Row>): Promise<QueryResult<Row>>
}

/** A dialect that has them. */
export type ShortDialect = Dialect & ShortWays

/** A step of a batch changed and found nothing that must not; nothing has happened. */
export class EmptyStep extends Error {
  /** Counted from 0. */
  readonly step: number

  constructor(step: number) {
    super(`step ${step} of the batch changed and found nothing`)
    this.name = 'EmptyStep'
    this.step = step
  }
}
