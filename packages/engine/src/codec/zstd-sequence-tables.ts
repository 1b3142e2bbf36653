/** The three codes of a zstd sequence: what their symbols mean and their predefined tables. Facts: RFC 8878, sections 3.1.1.3.2.1 and 3.1.1.3.2.2. */
import { buildFseTable, buildSingleSymbolTable, readDistribution } from './zstd-fse.ts'
import { corruptZstd, type FseTable, type SequenceCode, type ZstdWorkspace } from './zstd-workspace.ts'

/** Extra bits of each literal length code. */
export const literalLengthBits = Uint8Array.from([
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
])
/** Extra bits of each match length code. */
export const matchLengthBits = Uint8Array.from([
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3,
  3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
])
/** Smallest literal length of each code. */
export const literalLengthBase = basesOf(literalLengthBits, 0, 25, 64)
/** Smallest match length of each code. */
export const matchLengthBase = basesOf(matchLengthBits, 3, 43, 131)

/** Bases follow each other without gaps, but for one jump in each table. */
function basesOf(bits: Uint8Array, first: number, jumpAt: number, jumpTo: number): Int32Array {
  const bases = new Int32Array(bits.length)
  let base = first
  for (let code = 0; code < bits.length; code++) {
    if (code === jumpAt) base = jumpTo
    bases[code] = base
    base += 1 << (bits[code] as number)
  }
  return bases
}

interface CodeFacts {
  maxLog: number
  maxSymbol: number
  predefinedLog: number
  predefined: number[]
}

const facts: Record<SequenceCode, CodeFacts> = {
  literalLengths: {
    maxLog: 9,
    maxSymbol: 35,
    predefinedLog: 6,
    predefined: [
      4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ],
  },
  offsets: {
    maxLog: 8,
    maxSymbol: 31,
    predefinedLog: 5,
    predefined: [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
  },
  matchLengths: {
    maxLog: 9,
    maxSymbol: 52,
    predefinedLog: 6,
    predefined: [
      1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
      1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
  },
}

const predefinedTables: Partial<Record<SequenceCode, FseTable>> = {}

/** Makes the table of one code as the block's mode says: 0 predefined, 1 a single symbol, 2 written here, 3 the one before.
 *  Returns where the description ends. @throws MoraineError `corrupt`. */
export function readSequenceTable(
  workspace: ZstdWorkspace,
  code: SequenceCode,
  mode: number,
  at: number,
  end: number,
): number {
  const table = workspace.tables[code]
  const { maxLog, maxSymbol } = facts[code]
  if (mode === 0) {
    copyTable(predefinedTable(code), table)
    return at
  }
  if (mode === 1) {
    if (at >= end) throw corruptZstd('the codes of the sequences are cut')
    const symbol = workspace.block[at] as number
    if (symbol > maxSymbol) throw corruptZstd('an unknown code of the sequences')
    buildSingleSymbolTable(table, symbol)
    return at + 1
  }
  if (mode === 2) {
    const { distribution, next } = readDistribution(workspace.block, at, end, maxLog, maxSymbol)
    buildFseTable(table, distribution)
    return next
  }
  if (table.log < 0) throw corruptZstd('sequences repeat a code before the first')
  return at
}

function predefinedTable(code: SequenceCode): FseTable {
  let table = predefinedTables[code]
  if (table === undefined) {
    const { predefined, predefinedLog } = facts[code]
    table = { entries: new Int32Array(1 << predefinedLog), log: 0 }
    buildFseTable(table, { counts: Int16Array.from(predefined), symbols: predefined.length, log: predefinedLog })
    predefinedTables[code] = table
  }
  return table
}

function copyTable(from: FseTable, to: FseTable): void {
  to.entries.set(from.entries)
  to.log = from.log
}
